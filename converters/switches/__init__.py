"""Input-dependent gates in the graph: where they are, a model that shows them, a model that softens them."""
