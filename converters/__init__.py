"""ONNX in, callable models out. Knows nothing of backdoors.

The public names stand in `__init__.pyi` and are loaded on first use: `import backscan.converters` alone loads neither
torch nor onnxruntime.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
