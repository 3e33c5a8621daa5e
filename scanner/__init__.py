"""Detects backdoors in trained image classifiers. The public names of the package; everything else may change.

The names are loaded on first use: `import backscan.scanner` alone is light, so the command line starts at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backscan.scanner.cleanset import CleanSet
    from backscan.scanner.config import PRESETS, ScanConfig
    from backscan.scanner.errors import ScanError
    from backscan.scanner.pipeline import scan
    from backscan.scanner.reconsider import infer, verify
    from backscan.scanner.reports import render
    from backscan.scanner.results import Inference, PairResult, ScanResult, Verdict

_HOME = {
    "PRESETS": "config",
    "CleanSet": "cleanset",
    "Inference": "results",
    "PairResult": "results",
    "ScanConfig": "config",
    "ScanError": "errors",
    "ScanResult": "results",
    "Verdict": "results",
    "infer": "reconsider",
    "render": "reports",
    "scan": "pipeline",
    "verify": "reconsider",
}
"""Public name -> module that defines it."""

__all__ = [
    "PRESETS",
    "CleanSet",
    "Inference",
    "PairResult",
    "ScanConfig",
    "ScanError",
    "ScanResult",
    "Verdict",
    "infer",
    "render",
    "scan",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
