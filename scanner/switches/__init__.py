"""Backdoors built into the graph: found, tried out on images, demonstrated."""
