"""Operator converters that onnx2torch lacks, one file per family."""
