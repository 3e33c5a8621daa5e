"""Detectors: each searches for a planted pattern in its own way and judges what it found."""
