"""The folder of a study: names taken once, claims, checkpoints, records, readers."""
