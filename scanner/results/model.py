"""The scanned file: digest, signature, and whether the torch copy is the model in it."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from backscan.scanner.results.base import STRICT


@dataclass(frozen=True, slots=True, config=STRICT)
class SignatureRecord:
    """What the model takes and gives."""

    input_name: str
    """Name of the image input."""
    input_shape: tuple[int, int, int]
    """Channels, height, width."""
    layout: str
    """`NCHW` or `NHWC`."""
    dtype: str
    """Element type of the input."""
    batch: int | None
    """Fixed batch size; None if free."""
    output_name: str
    """Name of the classifier's output."""
    output_kind: str
    """`logits`, `probabilities` or `log_probabilities`."""
    opset: int
    """Version of the default operator set."""
    producer: str
    """Exporter named in the file."""
    other_outputs: tuple[str, ...] = ()
    """Outputs that were not used."""


@dataclass(frozen=True, slots=True, config=STRICT)
class ModelRecord:
    """The scanned file."""

    name: str
    """File name, without its folder."""
    sha256: str
    """Digest of the bytes that were scanned."""
    num_bytes: int
    """Size of the file, with external data."""
    num_classes: int | None = None
    """Classes; None if the model could not be opened."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes, if the user gave them."""
    signature: SignatureRecord | None = None
    """Input and output; None if the model could not be opened."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Parity:
    """Does the torch copy decide as the original file does."""

    decision_agreement: float
    """Share of images with the same decision."""
    largest_probability_gap: float | None
    """Largest difference of any posterior; None where one is no number."""
    largest_logit_gap: float | None
    """Largest relative difference of log-posteriors or logits; None where one is no number."""
    gradient_error: float | None
    """Median relative error of the torch gradient against central differences of onnxruntime."""
    num_images: int
    """Images compared."""
    real_images: bool
    """False when random images in bounds stood in for real ones."""
    passed: bool
    """Whether the contract's thresholds hold."""
    reason: str
    """What failed, or an empty text."""


@dataclass(frozen=True, slots=True, config=STRICT)
class FileRecord:
    """Another file that a report speaks of."""

    name: str
    """File name, without its folder."""
    sha256: str
    """Digest of its bytes; of reports of 0.1 its first sixteen characters."""
