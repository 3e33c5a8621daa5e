"""The public names and where each is defined; `lazy_loader` and type checkers read them here."""

from .aftercare.comparing import compare
from .aftercare.guard import Guard
from .aftercare.screening import screen_images
from .choices.registered import register_detector, register_objective, register_operator, register_statistic
from .config import PRESETS, ScanConfig
from .errors import ScanError
from .fleet.scanning import scan_models
from .images.cleanset import CleanSet
from .pipeline.rejudge import infer, verify
from .pipeline.scan import scan
from .reports import render
from .results import Inference, PairResult, ScanResult, Verdict

__all__ = [
    "PRESETS",
    "CleanSet",
    "Guard",
    "Inference",
    "PairResult",
    "ScanConfig",
    "ScanError",
    "ScanResult",
    "Verdict",
    "compare",
    "infer",
    "register_detector",
    "register_objective",
    "register_operator",
    "register_statistic",
    "render",
    "scan",
    "scan_models",
    "screen_images",
    "verify",
]
