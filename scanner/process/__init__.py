"""The process that holds the model: what is asked of it, what it does, and which answers are believed."""
