"""What exporters write: the matrix, real models, ONNX's own node tests."""
