"""A worker: takes cohorts, trains them, keeps what comes out, shows how far it is."""
