"""Several models: which, scanned where, with what becomes of one that fails."""
