"""What is decided from the rows: columns, task, checks, statistics, vocabularies."""
