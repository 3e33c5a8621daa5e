"""Detects backdoors in trained image classifiers. The public names of the package; everything else may change."""
