"""Reports of real scans as a reader sees them: four verdicts, on a desk and on a telephone."""
