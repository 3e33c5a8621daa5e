"""What goes into a model and what comes out: layout of the input, kind of the output."""
