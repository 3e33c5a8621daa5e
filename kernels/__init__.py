"""Compiled numerics of the method: numpy arrays and floats in and out, no torch, no onnx.

The names that the scanner uses stand in `__init__.pyi` and are loaded on first use: numba only when something compiled
is called for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
