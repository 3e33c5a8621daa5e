"""From the graph to a differentiable torch classifier with a free batch."""
