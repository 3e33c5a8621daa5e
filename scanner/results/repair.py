"""One repair of one model: what was changed, and what was measured on the repaired file."""

from __future__ import annotations

from dataclasses import asdict, field
from typing import Any

from pydantic.dataclasses import dataclass

from backscan.scanner.results.base import STRICT, plain
from backscan.scanner.results.model import FileRecord
from backscan.scanner.results.result import Provenance

REPAIR_SCHEMA = "repair-1.0"


@dataclass(frozen=True, slots=True, config=STRICT)
class RepairMeasures:
    """A file before and after, in onnxruntime, on images that the repair never saw."""

    num_images: int
    """Held-out images."""
    labels: str
    """`given`, or `decisions`: those of the file before."""
    accuracy_before: float
    """Share of them decided as labelled, before; 1 without labels."""
    accuracy_after: float
    """The same of the repaired file."""
    changed: float
    """Share of them whose decision changed."""
    num_carriers: int = 0
    """Held-out images of the source classes, which the pattern was added to; 0 in a blind repair."""
    success_before: float | None = None
    """Share of those decided as the target with the pattern, before."""
    success_after: float | None = None
    """The same of the repaired file."""
    success_without: float | None = None
    """Share of the same images decided as the target without the pattern, before."""


@dataclass(frozen=True, slots=True, config=STRICT)
class RepairResult:
    """One repair. The fields are the top level of its JSON report."""

    believed: bool
    """Whether everything that was measured on the repaired file allows to believe the repair."""
    reasons: tuple[str, ...]
    """Why it is believed, or what stands against it; a sentence each."""
    method: str
    """Name in the table of methods."""
    before: FileRecord
    """The file as it was."""
    provenance: Provenance
    """Enough to repeat it."""
    after: FileRecord | None = None
    """The repaired file; None where no attempt could be made."""
    written_to: str = ""
    """Where the repaired file, or the attempt, lies, beside the report; empty if nowhere."""
    schema_version: str = REPAIR_SCHEMA
    """Version of this layout."""
    tensors: tuple[str, ...] = ()
    """Stored tensors with other numbers."""
    nodes: tuple[str, ...] = ()
    """Nodes that were changed, added or removed; all else in the file is as it was."""
    source: int | None = None
    """Source class of the pattern; None in a blind repair."""
    target: int | None = None
    """Its target class."""
    sources: tuple[int, ...] = ()
    """Classes whose images measured the pattern."""
    detector: str | None = None
    """Detector that recovered it."""
    measures: RepairMeasures | None = None
    """What was measured."""
    verdict_before: str | None = None
    """Verdict of the scan before."""
    verdict_after: str | None = None
    """Verdict of the scan of the repaired file."""
    scan_reasons: tuple[str, ...] = ()
    """Reasons of that second scan."""
    max_drop: float = 0.02
    """Loss of accuracy that is accepted."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the repair, by name."""
    warnings: tuple[str, ...] = ()
    """What weakens the evidence."""
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds a step."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        document: dict[str, Any] = plain(asdict(self))
        return document
