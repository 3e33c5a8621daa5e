"""The public names and where each is defined; `lazy_loader` and type checkers read them here."""

from .cuts.candidates import CutCandidate, cut_candidates
from .errors import ConverterError, LimitExceededError, UnreadableFileError
from .intake.artifact import Artifact, artifact_from_bytes, external_locations, parse, read_artifact, with_external
from .intake.audit import IntakeReport, audit, enforce
from .intake.external import read_external
from .intake.policy import Policy
from .ort_classifier import OrtClassifier, open_runtime
from .parity.parity import ParityReport, compare
from .signature.readable import readable
from .signature.signature import ModelSignature, Normalisation, read_signature
from .torch_import.classifier import TorchClassifier
from .torch_import.importer import import_model

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
    "readable",
    "with_external",
]
