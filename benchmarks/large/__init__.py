"""Large networks made here, without training: what a scan of them costs, and whether it keeps to its time."""
