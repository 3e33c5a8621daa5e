"""The images used, and how their pixels became model input."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from backscan.scanner.results.base import STRICT


@dataclass(frozen=True, slots=True, config=STRICT)
class DataRecord:
    """The images used."""

    name: str
    """File or folder name, without the path before it."""
    digest: str
    """Digest of images and labels."""
    num_images: int
    """Images in total."""
    labels: str
    """Where labels come from: `given`, or `decisions` (the model's own, XMK note 7)."""
    images_per_class: tuple[int, ...]
    """Images per class used to optimise."""
    held_out_per_class: tuple[int, ...]
    """Images per class kept for verification."""
    found_beside_model: bool = False
    """True when no --data was given and the images lay beside the model."""


@dataclass(frozen=True, slots=True, config=STRICT)
class PreprocessingCandidate:
    """One way to turn pixels into model input, and how well the model does with it."""

    name: str
    """Name in the table of candidates."""
    accuracy: float
    """Share of correct decisions of the original file."""
    num_images: int
    """Images judged."""
    p_value: float
    """Paired (McNemar) test against the best candidate; 1 for the best itself."""
    tied: bool
    """Not worse than the best, and the model not plainly surer than by a tied one of a smaller scale."""
    surprise: float | None = None
    """Mean of -log of the label's posterior, of those that are equally accurate; None where it was not asked."""


@dataclass(frozen=True, slots=True, config=STRICT)
class PreprocessingRecord:
    """How pixels in [0, 1] become the model's input: (low + (high - low) pixel - mean) / std."""

    name: str
    """Name of the candidate, or `given`."""
    low: float
    """Value of a black pixel before mean and std."""
    high: float
    """Value of a white pixel before mean and std."""
    mean: tuple[float, ...]
    """Mean, one or one per channel."""
    std: tuple[float, ...]
    """Standard deviation, one or one per channel."""
    channel_order: str
    """`rgb` or `bgr`."""
    chosen_by: str
    """`accuracy`, `likelihood` (of the labels, among equally accurate ones), `tie` (order of plausibility among
    tied candidates), `option` or `unsettled`."""
    candidates: tuple[PreprocessingCandidate, ...] = ()
    """All candidates that were judged."""
    repeated_as: tuple[str, ...] = ()
    """Tied candidates of another scale under which the scan was repeated."""
    disagreement: tuple[str, ...] = ()
    """Why no verdict holds under all of them, a sentence each; empty where they agree."""
    pixel_order: str = "chw"
    """How colour images lie in a row of numbers: `chw`, or `hwc` for pixel after pixel."""
    standardise: bool = False
    """Whether each image is then brought to mean 0 and standard deviation 1."""
