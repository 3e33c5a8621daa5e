"""Operator converters that onnx2torch lacks or gets wrong, one file per family.

Importing this registers them all, so the importer takes `find_converter` from here.
"""

from backscan.converters.operators import (  # noqa: F401 - a family registers itself
    activations,
    attention,
    bits,
    casts,
    constants,
    convolutions,
    elementwise,
    matrices,
    normalization,
    padding,
    picking,
    pooling,
    quantization,
    quantized_contrib,
    quantized_products,
    recurrent,
    reductions,
    resize,
    sampling,
    scatter,
    selection,
    shapes,
    sklearn,
    thresholds,
)
from backscan.converters.operators.registry import find_converter

__all__ = ["find_converter"]
