"""Lets `import onnx2torch` work beside any torchvision, or none.

onnx2torch imports torchvision for two detection operators, NonMaxSuppression and RoiAlign, which no classifier
has. torchvision's wheels need the CUDA build of torch: beside a CPU torch they fail at import with `operator
torchvision::nms does not exist`. Since nothing here needs torchvision, empty stand-ins take its place in
`sys.modules` for as long as onnx2torch is being imported, and no longer: whoever wants the real one later gets it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

NEEDS_TORCHVISION = frozenset({"NonMaxSuppression", "RoiAlign"})
"""Operators whose onnx2torch converters call torchvision: unusable behind the stand-ins."""


@contextmanager
def torchvision_stand_in() -> Iterator[None]:
    """While open, `import torchvision` gives an empty module, unless the real one is already loaded."""
    if "torchvision" in sys.modules:
        yield
        return
    package, ops = ModuleType("torchvision"), ModuleType("torchvision.ops")
    package.ops = ops  # type: ignore[attr-defined]
    ops.roi_align = None  # type: ignore[attr-defined]
    sys.modules |= {"torchvision": package, "torchvision.ops": ops}
    try:
        yield
    finally:
        del sys.modules["torchvision"], sys.modules["torchvision.ops"]
