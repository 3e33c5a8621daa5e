"""The file of a report, or another for its pattern, opened anew as the scan opened it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np

from backscan.scanner.config import ScanConfig
from backscan.scanner.detectors import DETECTORS
from backscan.scanner.errors import AbsentNameError, ReportError
from backscan.scanner.inference.verdict import dependence_reason
from backscan.scanner.pipeline.admission import admitted_by
from backscan.scanner.pipeline.selection import draw_images
from backscan.scanner.process.parent import SettledFile, open_process
from backscan.scanner.results import FoundPattern, ScanResult
from backscan.scanner.search.spaces import SPACES, change_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backscan.converters import Artifact, Normalisation
    from backscan.scanner.images.cleanset import CleanSet
    from backscan.scanner.pipeline.record import Images
    from backscan.scanner.process.parent import CutFile, ModelProcess
    from backscan.scanner.process.protocol import Difference, Opened

    Shape = tuple[int, int, int]

Settled = TypeVar("Settled", bound=SettledFile, covariant=True)


class Openable(Protocol[Settled]):
    """An opened file, with its copy or alone."""

    @property
    def facts(self) -> Opened:
        """What it is."""

    @property
    def protections(self) -> tuple[str, ...]:
        """What limits its process."""

    def difference(self, before: Artifact, nodes: Sequence[str] = ()) -> Difference:
        """How it differs from an earlier file."""

    def settle(self, normalisation: Normalisation) -> Settled:
        """The same, fed with pixels."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a report is taken up again with."""

    artifact: Artifact
    """The file; with its external data, or as it was read."""
    folder: Path
    """Where its external data lies."""
    clean: CleanSet
    """Images."""


@dataclass(frozen=True, slots=True)
class Reopened(Generic[Settled]):
    """A file in its limited process, and the images as the scan drew them."""

    artifact: Artifact
    """The file with its external data."""
    opened: Openable[Settled]
    """The file."""
    settled: Settled
    """The same, fed with pixels as the report says."""
    clean: CleanSet
    """The images in the shape of the model."""
    images: Images
    """Which of them searched, and which are held out."""


@contextmanager
def reopened(
    result: ScanResult,
    given: Given,
    opening: Callable[[ModelProcess, Artifact, ScanConfig, Shape], Openable[Settled]],
    *,
    sandbox: bool = True,
) -> Iterator[Reopened[Settled]]:
    """A file opened anew as the scan of a report opened its own.

    Args:
        result: The report.
        given: The file and the images.
        opening: `ModelProcess.open`, or `ModelProcess.open_file` for the file without its copy.
        sandbox: Whether a limited child process opens it.

    Raises:
        ReportError: the report says not how the model reads images, or is not one of such a model.
        NoVerdictError: the file is refused or cannot be opened.
    """
    if result.preprocessing is None:
        raise ReportError("expected a report that says how the model reads images, found none: scan it with --data")
    config = ScanConfig.from_dict(result.config)
    with open_process(sandbox=sandbox) as process:
        artifact = admitted_by(process, given.artifact, given.folder)
        shape = result.model.signature.input_shape if result.model.signature else given.clean.shape
        try:
            opened = opening(process, artifact, config, shape)
        except AbsentNameError as error:
            raise ReportError(
                f"expected a model with output {config.output_name!r}, as the report's had: pass the model of the "
                "report"
            ) from error
        settled = opened.settle(normalisation_of(result))
        if dependence_reason(result.findings) and settled.facts.signature.batch is None:
            settled.call_alone()
        for found in result.patterns[:1]:
            _check_pattern(found, settled)
        fitted = given.clean.fit_to(settled.facts.signature.input_shape)
        fitted.check_labels(settled.facts.num_classes)
        yield Reopened(artifact, opened, settled, fitted, draw_images(settled, fitted, config))


def _check_pattern(found: FoundPattern, settled: SettledFile) -> None:
    """Refuse a pattern on images of another shape, and one of classes that the model lacks.

    Raises:
        ReportError: it is one.
    """
    if not acts_on_features(found):
        check_shape(found, settled.facts.signature.input_shape)
    num_classes = settled.facts.num_classes
    if not all(0 <= each < num_classes for each in (found.source, found.target)):
        raise ReportError(
            f"expected a pattern between classes 0 to {num_classes - 1} in the report, found one from {found.source} "
            f"to {found.target}: make the report again with `scanner check`"
        )


def acts_on_features(found: FoundPattern) -> bool:
    """Whether a pattern acts inside the model."""
    return found.mask is None and found.detector in DETECTORS and DETECTORS[found.detector].acts_on_features


def cut_for(settled: SettledFile, pattern: FoundPattern) -> CutFile | None:
    """The file cut where the pattern of the report acts; None if that is the image.

    Raises:
        ReportError: the model cannot be cut there, or has features of another shape there.
    """
    if not acts_on_features(pattern):
        return None
    expected = f"expected a model that can be cut at {pattern.space!r}, as the report's was"
    try:
        cut = settled.cut_file(pattern.space)
    except AbsentNameError as error:
        raise ReportError(f"{expected}: pass the model of the report") from error
    if isinstance(cut, str):
        raise ReportError(f"{expected}: {cut}")
    check_shape(pattern, cut.shape)
    return cut


def check_shape(pattern: FoundPattern, shape: tuple[int, ...]) -> None:
    """Refuse a model of images, or of features, of a shape on which patterns have another one.

    Raises:
        ReportError: the pattern is not one of this model, or none that a search can give.
    """
    values = pattern.values.decode()
    if not np.isfinite(values).all():
        raise ReportError("expected finite numbers in the report's pattern, found others: run `scanner check` again")
    on_features = acts_on_features(pattern)
    if not on_features and pattern.mask is None:
        shape = change_of(pattern.space).pattern_shape(shape)
    found = values.shape
    if found != shape:
        places = "features" if on_features else "images" if pattern.space not in SPACES else "patterns"
        raise ReportError(
            f"expected a model of {places} {list(found)}, as the report's pattern is, found one of "
            f"{list(shape)}: pass the model of the report"
        )


def normalisation_of(result: ScanResult) -> Normalisation:
    """How pixels became model input in the scan of a report that says it."""
    from backscan.converters import Normalisation

    record = result.preprocessing
    assert record is not None  # noqa: S101 - checked by the caller
    return Normalisation(
        low=record.low,
        high=record.high,
        mean=record.mean,
        std=record.std,
        channel_order=record.channel_order,
        pixel_order=record.pixel_order,
        standardise=record.standardise,
    )
