"""Does the torch copy decide, and bend, as the file does."""
