"""Reports: pure functions from a scan result to text. No clock, no file, no torch, no kernels."""
