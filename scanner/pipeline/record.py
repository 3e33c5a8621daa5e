"""What a scan knows so far: a frozen value from each step, and what is left to be said; the result is made of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from backscan.converters.sandbox.clock import clock, now
from backscan.scanner.detectors import Searched
from backscan.scanner.images.cleanset import Draw
from backscan.scanner.images.preprocessing import Settlement
from backscan.scanner.inference.verdict import Judgement, with_findings
from backscan.scanner.pipeline.provenance import precision_of
from backscan.scanner.process.parent import CutModel, OpenedModel
from backscan.scanner.results import (
    Controls,
    DataRecord,
    DormantUnits,
    Example,
    FoundPattern,
    GraphFinding,
    Inference,
    LeftToSearch,
    ModelRecord,
    Parity,
    Provenance,
    RepeatRecord,
    ScanResult,
    TimeRecord,
    Verification,
)
from backscan.scanner.search.spaces import in_words

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from backscan.converters import Artifact
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.process.parent import ModelProcess
    from backscan.scanner.progress import Progress

T = TypeVar("T")

SEARCH_PHASE = "search"
"""Name of the phase that searches class pairs."""


@dataclass(frozen=True, slots=True)
class Stop(Judgement):
    """What a gate gives instead of its value where nothing more can be said."""


class Stopped(Exception):  # noqa: N818 - an outcome, not an error
    """A gate was shut; carries the judgement that this is."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(*stop.reasons)
        self.stop = stop


@dataclass(frozen=True, slots=True)
class GraphFindings:
    """What is built into the graph."""

    findings: tuple[GraphFinding, ...]
    """Switches and gates, and units that patterns wake."""
    dormant: DormantUnits | None = None
    """Units that stand still, and what was tried of them."""


@dataclass(frozen=True, slots=True)
class Cutting:
    """Where the model was cut for the detectors that act on its features."""

    cut: CutModel | None
    """The cut model; None where none of them was chosen, or the model cannot be cut."""

    @property
    def tensor(self) -> str | None:
        """Name of the tensor."""
        return None if self.cut is None else self.cut.tensor


@dataclass(frozen=True, slots=True)
class Images:
    """The clean images of a scan in the shape of the model, with the class each one stands for."""

    pixels: NDArray[np.float32]
    """Images [N, C, H, W] in [0, 1]."""
    drawn: Draw
    """Which of them search and which are held out, by class."""
    record: DataRecord
    """What reports say about them."""

    def search(self) -> dict[int, NDArray[np.float32]]:
        """Images of the search by class."""
        return {label: self.pixels[indices] for label, indices in self.drawn.optimise.items()}

    def held_out(self) -> dict[int, NDArray[np.float32]]:
        """Images the search never sees, by class."""
        return {label: self.pixels[indices] for label, indices in self.drawn.held_out.items() if len(indices)}


@dataclass(frozen=True, slots=True)
class Repeats:
    """What each of several scans said; empty where there was one."""

    records: tuple[RepeatRecord, ...] = ()
    """In their order."""


@dataclass(frozen=True, slots=True)
class Concluded:
    """What the detectors conclude, which conclusion the verdict rests on, and its evidence: fields of the result."""

    detectors: tuple[Inference, ...]
    """Every conclusion."""
    deciding: int | None = None
    """Place in `detectors` of the one that the verdict of the search rests on."""
    calibrated_p_value: float | None = None
    """Its calibrated p-value, corrected for the number of conclusions that decide."""
    verification: Verification | None = None
    """Replay of its pattern on the original file."""
    patterns: tuple[FoundPattern, ...] = ()
    """Its pattern."""
    examples: tuple[Example, ...] = ()
    """Held-out images before and after."""
    controls: Controls | None = None
    """Comparisons with other pairs."""

    @property
    def conclusion(self) -> Inference | None:
        """The conclusion that the verdict of the search rests on."""
        return None if self.deciding is None else self.detectors[self.deciding]

    def fields(self) -> dict[str, Any]:
        """Fields of the result, but for the classes that the judgement names."""
        told = {name: getattr(self, name) for name in self.__dataclass_fields__}
        conclusion = self.conclusion
        return told | {
            "p_value": None if conclusion is None else conclusion.p_value,
            "null": None if conclusion is None else conclusion.null,
        }


def model_record(artifact: Artifact, class_names: Sequence[str] | None) -> ModelRecord:
    """Name, digest and size of the file."""
    num_bytes = len(artifact.data) + sum(len(data) for data in artifact.external.values())
    names = tuple(class_names) if class_names else None
    return ModelRecord(artifact.name, artifact.sha256, num_bytes, class_names=names)


@dataclass(slots=True)
class Record:
    """Everything that a scan keeps of its steps."""

    artifact: Artifact
    """The scanned file."""
    class_names: Sequence[str] | None
    """Names of the classes, if the user gave them."""
    config: ScanConfig
    """Options of the scan."""
    provenance: Provenance
    """Enough to repeat the scan."""
    progress: Progress
    """Observer of the steps and warnings."""
    began: float = field(default_factory=time.monotonic)
    """When the scan began, on the monotonic clock."""
    out_of_time: bool = False
    """Whether the time limit ended a part of the search."""
    is_reduced: bool = False
    """Whether steps were taken in reduced precision: not each model gains by it, or allows it."""
    decided_in_float32: bool = False
    """Whether a search in bfloat16 came so near the threshold that another in float32 decides."""
    seconds_per_image: float = 0.0
    """What an image through the file costs, measured where there is a time limit."""
    estimate: float | None = None
    """Seconds that the whole scan takes, as was estimated before the search."""
    left: dict[str, tuple[LeftToSearch, float]] = field(default_factory=dict)
    """What each detector left to search when the time was up, and about how many seconds that takes."""
    _values: dict[type, Any] = field(default_factory=dict)
    _warnings: list[str] = field(default_factory=list)
    _not_tested: list[str] = field(default_factory=list)
    _timings: dict[str, float] = field(default_factory=dict)

    def take(self, value: T | Stop) -> T:
        """Keep what a step gave, in place of what it gave before; a gate that is shut ends the scan here.

        Raises:
            Stopped: the value is a `Stop`.
        """
        if isinstance(value, Stop):
            raise Stopped(value)
        self._values[type(value)] = value
        return value

    def warn(self, *texts: str) -> None:
        """Record what weakens the evidence, once, and tell the observer."""
        for text in texts:
            if text not in self._warnings:
                self._warnings.append(text)
                self.progress.warn(text)

    def leave_out(self, *texts: str) -> None:
        """Record what this scan cannot speak about, once."""
        self._not_tested = list(dict.fromkeys((*self._not_tested, *texts)))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A named step: told to the observer, its seconds recorded."""
        self.progress.phase(name)
        started = time.monotonic()
        try:
            yield
        finally:
            self._timings[name] = self._timings.get(name, 0.0) + time.monotonic() - started

    def _precision(self, opened: OpenedModel) -> str:
        """What steps computed in."""
        found = precision_of(is_reduced=self.is_reduced, has_bfloat16=opened.facts.has_bfloat16)
        return f"{found}, then float32 as that was near the threshold" if self.decided_in_float32 else found

    def result(self, judgement: Judgement, *, interrupted: bool = False) -> ScanResult:
        """The result: what was kept, and a judgement, with what the graph adds to it unless the user ended the scan."""
        if SEARCH_PHASE not in self._timings:
            self.leave_out("every class pair: the scan ended before the search")
        opened, settlement = self.get(OpenedModel), self.get(Settlement)
        graph, images, cutting = self.get(GraphFindings), self.get(Images), self.get(Cutting)
        searched, concluded, repeats = self.get(Searched), self.get(Concluded), self.get(Repeats)
        findings = graph.findings if graph else ()
        judgement = judgement if interrupted else with_findings(judgement, findings)
        source, target = judgement.classes(concluded.conclusion if concluded else None)
        config = self.config.to_dict()
        if cutting:
            config["cut"] = cutting.tensor
        if searched:
            config["detectors"] = list(searched.detectors)
        model = model_record(self.artifact, self.class_names)
        provenance = self.provenance
        if opened:
            model = replace(model, num_classes=opened.facts.num_classes, signature=opened.facts.signature)
            provenance = replace(
                provenance,
                device=opened.facts.device,
                precision=self._precision(opened),
                protections=opened.protections,
            )
        return ScanResult(
            verdict=judgement.verdict,
            reasons=judgement.reasons,
            look_alikes=judgement.look_alikes,
            model=model,
            config=config,
            provenance=provenance,
            significance=self.config.significance,
            bootstrap_draws=self.config.bootstrap_draws,
            findings=findings,
            dormant_units=graph.dormant if graph else None,
            parity=self.get(Parity),
            preprocessing=settlement.record if settlement else None,
            clean_accuracy=settlement.accuracy if settlement else None,
            data=images.record if images else None,
            pairs=searched.pairs if searched else (),
            screens=searched.screens if searched else (),
            targets=searched.targets if searched else (),
            warnings=tuple(self._warnings),
            not_tested=tuple(self._not_tested),
            timings={name: round(seconds, 3) for name, seconds in self._timings.items()},
            finished=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            source=source,
            target=target,
            repeats=repeats.records if repeats else (),
            space=in_words(self.config.space) if searched else None,
            time=self.time(),
            **(concluded.fields() if concluded else {}),
        )

    def leave(self, detector: str, unit: str, number: int, *, planned: int, seconds: float) -> None:
        """Record that the clock left so many of what a detector was to search, which takes about so many seconds."""
        self.left[detector] = LeftToSearch(detector, unit, number, planned), seconds

    def time(self) -> TimeRecord | None:
        """How the time was spent; None without a limit."""
        if self.config.time_limit is None:
            return None
        parts, seconds = zip(*self.left.values(), strict=True) if self.left else ((), ())
        return TimeRecord(
            limit=self.config.time_limit,
            taken=round(now() - (clock().began if clock().is_limited else self.began), 1),
            estimate=None if self.estimate is None else round(self.estimate, 1),
            ended_the_scan=self.out_of_time,
            left=tuple(parts),
            seconds_left=round(sum(seconds), 1) if any(seconds) else None,
        )

    def get(self, kind: type[T]) -> T | None:
        """What a step gave, None if it gave nothing yet."""
        value: T | None = self._values.get(kind)
        return value


@dataclass(frozen=True, slots=True)
class Run:
    """What every step of one scan may use."""

    config: ScanConfig
    """Options."""
    record: Record
    """Keeps what the steps give."""
    process: ModelProcess
    """The limited process, before it has opened the model."""
    journal: Path | None = None
    """Folder where finished pairs are kept."""
    resume: bool = False
    """Whether the journal is of an interrupted scan that goes on."""

    def for_classes(self, num_classes: int, num_values: int) -> Run:
        """The run with the detectors that are chosen for so many classes and values of an image where none is named."""
        self.record.config = self.config.for_classes(num_classes, num_values)
        return replace(self, config=self.record.config)
