"""ONNX in, callable models out. Knows nothing of backdoors.

The public names are loaded on first use: `import backscan.converters` alone loads neither torch nor onnxruntime.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backscan.converters.artifact import (
        Artifact,
        artifact_from_bytes,
        external_locations,
        parse,
        read_artifact,
        with_external,
    )
    from backscan.converters.classifier import TorchClassifier
    from backscan.converters.cuts import CutCandidate, cut_candidates
    from backscan.converters.errors import ConverterError, LimitExceededError, UnreadableFileError
    from backscan.converters.external import read_external
    from backscan.converters.importer import import_model
    from backscan.converters.intake import IntakeReport, audit, enforce
    from backscan.converters.parity import ParityReport, compare
    from backscan.converters.policy import Policy
    from backscan.converters.runtime import OrtClassifier, open_runtime
    from backscan.converters.signature import ModelSignature, Normalisation, read_signature

_HOME = {
    "Artifact": "artifact",
    "ConverterError": "errors",
    "CutCandidate": "cuts",
    "IntakeReport": "intake",
    "LimitExceededError": "errors",
    "ModelSignature": "signature",
    "Normalisation": "signature",
    "OrtClassifier": "runtime",
    "ParityReport": "parity",
    "Policy": "policy",
    "TorchClassifier": "classifier",
    "UnreadableFileError": "errors",
    "artifact_from_bytes": "artifact",
    "audit": "intake",
    "compare": "parity",
    "cut_candidates": "cuts",
    "enforce": "intake",
    "external_locations": "artifact",
    "import_model": "importer",
    "open_runtime": "runtime",
    "parse": "artifact",
    "read_artifact": "artifact",
    "read_external": "external",
    "read_signature": "signature",
    "with_external": "artifact",
}
"""Public name -> module that defines it."""

__all__ = [
    "Artifact",
    "ConverterError",
    "CutCandidate",
    "IntakeReport",
    "LimitExceededError",
    "ModelSignature",
    "Normalisation",
    "OrtClassifier",
    "ParityReport",
    "Policy",
    "TorchClassifier",
    "UnreadableFileError",
    "artifact_from_bytes",
    "audit",
    "compare",
    "cut_candidates",
    "enforce",
    "external_locations",
    "import_model",
    "open_runtime",
    "parse",
    "read_artifact",
    "read_external",
    "read_signature",
    "with_external",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
