"""What a command works on after a scan: the report's file, opened as the scan opened it, its images and its pattern."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from backscan.kernels.embedding import patch
from backscan.scanner.config import ScanConfig
from backscan.scanner.detectors import DETECTORS
from backscan.scanner.errors import OptionError, ReportError
from backscan.scanner.images.cleanset import FEWEST_IMAGES
from backscan.scanner.pipeline.reopening import Given, Openable, acts_on_features, cut_for, reopened
from backscan.scanner.pipeline.replay_support import found_support
from backscan.scanner.process.parent import ModelProcess, SettledModel
from backscan.scanner.results import FoundPattern, ScanResult, TargetResult, Verdict
from backscan.scanner.search.spaces import SPACES, change_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.converters import Artifact
    from backscan.scanner.images.cleanset import CleanSet
    from backscan.scanner.pipeline.record import Images
    from backscan.scanner.process.parent import CutFile

    Pixels = NDArray[np.float32]

# Share of the images that content has to send to a target to be unlearned for it.
_LEAST_RATE = 0.5


@dataclass(frozen=True, slots=True)
class Planted:
    """A recovered pattern and the images that it is tried on."""

    found: FoundPattern
    """The pattern."""
    sources: tuple[int, ...]
    """Classes it takes images from, as far as the scan says."""

    @property
    def on_features(self) -> bool:
        """Whether it acts inside the model."""
        return acts_on_features(self.found)

    def embed(self, images: Pixels) -> Pixels:
        """Images [N, C, H, W] with a pattern that acts on images."""
        values = self.found.values.decode()
        if self.found.mask is None:
            return change_of(self.found.space).replayed(images, values)
        return patch(images, values, self.found.mask.decode())

    @property
    def looks_like_itself(self) -> bool:
        """Whether it is found in an image as it is: added to it, or in the place of a part of it."""
        return not self.on_features and self.found.space not in SPACES


@dataclass(frozen=True, slots=True)
class Subject:
    """A file that a report is about, opened in its limited process."""

    artifact: Artifact
    """The file with its external data."""
    opened: Openable[SettledModel]
    """The file and its copy."""
    settled: SettledModel
    """The same, fed with pixels."""
    clean: CleanSet
    """The images in the shape of the model."""
    images: Images
    """Which of them are for learning, and which are held out."""

    def decide(self, images: Pixels, planted: Planted | None = None) -> NDArray[np.int64]:
        """Decisions [N] of the file on images [N, C, H, W], with a pattern if there is one."""
        return decide(self.settled, images, planted, self.cut(planted) if planted else None)

    def cut(self, planted: Planted) -> CutFile | None:
        """The file cut where the pattern acts; None if that is the image."""
        return cut_for(self.settled, planted.found)

    @property
    def labels(self) -> NDArray[np.int64]:
        """What the images are: the given labels, or the decisions of the file."""
        return self.settled.decisions(self.clean.images) if self.clean.labels is None else self.clean.labels


def decide(settled: SettledModel, images: Pixels, planted: Planted | None, cut: CutFile | None) -> NDArray[np.int64]:
    """Decisions [N] of a file, with a pattern if there is one."""
    if planted is None:
        return settled.decisions(images)
    if cut is not None:
        return cut.decisions(images, planted.found.values.decode())
    return settled.decisions(planted.embed(images))


def planted_of(result: ScanResult, *, needed: str = "") -> Planted | None:
    """The pattern of a detection, with its sources; None where the report holds none.

    Args:
        result: A report.
        needed: What cannot do without, for the error; empty takes a report without one.

    Raises:
        ReportError: there is none and it is needed, it is none of this version, or its numbers cannot be used.
    """
    found = result.patterns[0] if result.patterns else None
    if found is None or (not needed and result.verdict is not Verdict.BACKDOOR_DETECTED):
        if needed:
            raise ReportError(f"expected a report with a recovered pattern for {needed}, found none: scan the model")
        return None
    if found.mask is None and found.detector not in DETECTORS:
        raise ReportError(f"expected a pattern of a detector of this version, found {found.detector!r}: scan again")
    _check_numbers(found)
    return Planted(found, _sources(result, found))


def visible_pattern(result: ScanResult, planted: Planted | None) -> FoundPattern | None:
    """The pattern as images can carry it; None where the report holds none.

    Of one that acts inside the model that is what takes the place of the image and leads to the same target, of what
    the report holds the content whose rate stands out most from those of the other targets, if it sends half of the
    images there.

    Args:
        result: The report.
        planted: Its pattern.
    """
    if planted is None or planted.looks_like_itself:
        return planted.found if planted else None
    held = [
        entry
        for entry in result.targets
        if entry.target == planted.found.target
        and entry.support is not None
        and entry.support.content is not None
        and (entry.rate or 0.0) >= _LEAST_RATE
    ]
    if not held or result.model.signature is None:
        return None
    best = max(held, key=lambda entry: (entry.rate or 0.0) - _usual_rate(result.targets, entry))
    found = found_support(best, planted.found.source, result.model.signature.input_shape)
    _check_numbers(found)
    return found


def _usual_rate(targets: Sequence[TargetResult], entry: TargetResult) -> float:
    """Median rate of the other targets of the same detector: in a large window ordinary content succeeds on most."""
    others = [each.rate or 0.0 for each in targets if each.detector == entry.detector and each.target != entry.target]
    return median(others) if others else 0.0


def _check_numbers(found: FoundPattern) -> None:
    """Refuse a pattern that leads nowhere, or whose numbers or mask no image could carry.

    Raises:
        ReportError: it is one.
    """
    values = found.values.decode()
    amiss = ""
    if found.source == found.target:
        amiss = f"one from class {found.source} to itself"
    elif not np.isfinite(values).all():
        amiss = "numbers that are not finite"
    elif found.mask is not None and (
        (mask := found.mask.decode()).shape != values.shape[-2:] or not (np.isfinite(mask) & (mask >= 0)).all()
    ):
        amiss = f"a mask of shape {list(mask.shape)} for values of shape {list(values.shape)}, or not in [0, 1]"
    if amiss:
        raise ReportError(f"expected a pattern that images can carry in the report, found {amiss}: scan again")


def _sources(result: ScanResult, found: FoundPattern) -> tuple[int, ...]:
    """The pattern's own source, and other classes that the replay saw it send to the target more often than before."""
    others: list[int] = []
    if result.verification is not None and result.verification.target == found.target:
        goal = ScanConfig.from_dict(result.config).goal_rate / 2
        others = [each.source for each in result.verification.collateral if each.rate > max(goal, each.initial_rate)]
    return tuple(sorted({found.source, *others}))


@contextmanager
def opened_for(
    result: ScanResult, artifact: Artifact, folder: Path, clean: CleanSet, *, sandbox: bool = True
) -> Iterator[Subject]:
    """The file of a report, opened anew as its scan opened it.

    Args:
        result: The report.
        artifact: The file; with its external data, or as it was read.
        folder: Where its external data lies.
        clean: Images.
        sandbox: Whether a limited child process opens it.

    Raises:
        ReportError: the report says not how the model reads images.
        NoVerdictError: the file is refused or cannot be opened.
    """
    given = Given(artifact, folder, clean)
    with reopened(result, given, ModelProcess.open, sandbox=sandbox) as again:
        yield Subject(again.artifact, again.opened, again.settled, again.clean, again.images)


def places_of(drawn: Mapping[int, NDArray[np.int64]]) -> NDArray[np.int64]:
    """Places of all images that were drawn, sorted.

    Raises:
        OptionError: there are none.
    """
    places = [np.asarray(each, np.int64) for each in drawn.values()]
    if not sum(map(len, places)):
        raise OptionError(
            f"expected at least {FEWEST_IMAGES} images of a class, found fewer of every class: pass more with --data"
        )
    return np.sort(np.concatenate(places))


def check_digest(report: ScanResult, subject: Subject) -> None:
    """Refuse a report of another file.

    Raises:
        ReportError: it is one.
    """
    if report.model.sha256 != subject.artifact.sha256:
        raise ReportError(
            f"expected the report of {subject.artifact.name}, found one of a file with digest "
            f"{report.model.sha256[:16]}: scan this file, or pass the one of the report"
        )
