"""What a report must say so that the scan can be repeated."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backscan.scanner.results import Provenance

_LIBRARIES = ("onnx", "onnxruntime", "onnxruntime-gpu", "onnx2torch", "torch", "numpy", "scipy", "numba")


def version() -> str:
    """Version of the installed package; `0` where it runs from a source tree without installation."""
    try:
        return metadata.version("backscan")
    except metadata.PackageNotFoundError:
        return "0"


def provenance(*, seed: int, command: str) -> Provenance:
    """Versions, platform, seed and command; the device is filled in once the model is open."""
    from backscan.scanner.choices import registered
    from backscan.scanner.results import Provenance  # not where only the version is asked for

    return Provenance(
        version=version(),
        libraries=_installed(),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        device="not opened",
        seed=seed,
        command=command,
        extensions=registered.told(),
    )


def precision_of(*, is_reduced: bool, has_bfloat16: bool) -> str:
    """What steps computed in.

    Args:
        is_reduced: Whether that was bfloat16.
        has_bfloat16: Whether the processor or GPU multiplies it; else it was done by rounding.
    """
    if not is_reduced:
        return "float32"
    return "bfloat16" if has_bfloat16 else "float32 rounded to bfloat16"


def _installed() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
