"""One scan, step by step."""
