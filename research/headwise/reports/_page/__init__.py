"""The report as one file: what is read, what is shown of it, the page around it."""
