"""Backdoors built into the graph, planted into real exports."""
