"""Hostile and broken inputs, mutated files, killed scans."""
