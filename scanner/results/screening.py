"""Images that carry the pattern of a report."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic.dataclasses import dataclass

from backscan.scanner.results.base import STRICT, plain
from backscan.scanner.results.model import FileRecord

SCREEN_SCHEMA = "screen-1.0"


@dataclass(frozen=True, slots=True, config=STRICT)
class Listed:
    """An image that carries the pattern."""

    place: int
    """Its place among the images, in their order."""
    name: str
    """Its file, or its place in an archive."""
    score: float
    """How strongly, in [0, 1]."""


@dataclass(frozen=True, slots=True, config=STRICT)
class ScreenResult:
    """The images of a folder, scored by the pattern of a report. The fields are the top level of its JSON report."""

    model_sha256: str
    """File that the report is about."""
    source: int
    """Source class of the pattern."""
    target: int
    """Its target class."""
    num_images: int
    """Images that were scored."""
    threshold: float
    """Score above which they are listed."""
    rate: float
    """False-alarm rate that the threshold was set for on clean images."""
    alarms_on_clean: int
    """Clean images above it."""
    num_clean: int
    """Clean images that set it."""
    interval: tuple[float, float]
    """95 % interval of the false-alarm rate."""
    extrapolated: bool
    """Whether the clean images are too few to show such a rate."""
    listed: tuple[Listed, ...]
    """Those above it, strongest first."""
    schema_version: str = SCREEN_SCHEMA
    """Version of this layout."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        document: dict[str, Any] = plain(asdict(self))
        return document


GUARD_SCHEMA = "guard-1.0"


@dataclass(frozen=True, slots=True, config=STRICT)
class GuardResult:
    """A file with a score of how strongly images carry a pattern. The fields are the top level of its JSON report."""

    before: FileRecord
    """The file."""
    source: int
    """Source class of the pattern."""
    target: int
    """Its target class."""
    rate: float
    """False-alarm rate that was asked for."""
    num_clean: int
    """Clean images that set the threshold, none of which made the filter."""
    reasons: tuple[str, ...]
    """What was done, or why not."""
    output: str = "pattern_score"
    """Name of the output."""
    tensor: str | None = None
    """Value inside the model that is scored beside the pixels; None where only these count."""
    after: FileRecord | None = None
    """The file with the output; None where none was written."""
    threshold: float | None = None
    """Score above which an image is suspicious; None where no score reaches the rate."""
    alarms_on_clean: int | None = None
    """Clean images above it, by the written file; None where none was written."""
    interval: tuple[float, float] | None = None
    """95 % interval of the false-alarm rate."""
    extrapolated: bool = False
    """Whether the clean images are too few to show such a rate."""
    num_planted: int = 0
    """Held-out source images that the recovered pattern was added to."""
    caught: float | None = None
    """Share of them above the threshold."""
    enforce: str | None = None
    """What the file does with suspicious images: `reject`, a class more, or `without`, the pattern taken off."""
    success_before: float | None = None
    """Share of images with the pattern decided as the target, before; None where nothing is enforced."""
    success_after: float | None = None
    """The same of the file that acts."""
    microseconds: float | None = None
    """Time that the file takes longer than the one before, an image; None where none was written, and where it is less
    than what repeated timings differ by."""
    microseconds_without: float | None = None
    """Time of the file before, an image."""
    schema_version: str = GUARD_SCHEMA
    """Version of this layout."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        document: dict[str, Any] = plain(asdict(self))
        return document
