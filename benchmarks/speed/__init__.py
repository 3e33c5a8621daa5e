"""Regression benchmarks: counts are compared exactly, times as ratios to a reference in the same run."""
