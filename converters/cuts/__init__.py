"""Cut a model at a tensor: front, back, and the same cut in the file."""
