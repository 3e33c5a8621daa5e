"""Classifiers to measure on: groups, data, networks, poisoning, training."""
