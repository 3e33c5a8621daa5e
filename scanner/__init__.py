"""Detects backdoors in trained image classifiers. The public names of the package; everything else may change.

The names stand in `__init__.pyi` and are loaded on first use: `import backscan.scanner` alone is light, so the command
line starts at once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
