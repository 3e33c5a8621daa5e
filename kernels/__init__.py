"""Compiled numerics of the method: numpy arrays and floats in and out, no torch, no onnx."""
