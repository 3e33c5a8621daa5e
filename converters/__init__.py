"""ONNX in, callable models out. Knows nothing of backdoors."""
