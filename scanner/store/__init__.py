"""What is kept on disk: journals, cached results, files that others may have written."""
