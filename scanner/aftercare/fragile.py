"""Fragile pairs of a model: their patterns, the images that flip first, and images to train with against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backscan.kernels.embedding import add
from backscan.scanner.aftercare.augmentation import Augmentation
from backscan.scanner.aftercare.steps import Steps
from backscan.scanner.aftercare.subject import check_digest, opened_for
from backscan.scanner.config import COMMONALITY, ScanConfig
from backscan.scanner.detectors import DETECTORS
from backscan.scanner.errors import NoVerdictError, OptionError, ReportError
from backscan.scanner.pipeline.admission import as_clean_set, read
from backscan.scanner.pipeline.evidence import encode_png
from backscan.scanner.pipeline.provenance import provenance
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.results import (
    EncodedArray,
    Example,
    FoundPattern,
    FragilePair,
    FragileResult,
    PairResult,
    ScanResult,
    Verdict,
    commonality_of,
    fragile_pairs,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.scanner.aftercare.subject import Subject
    from backscan.scanner.images.cleanset import CleanSet
    from backscan.scanner.progress import Progress

_MOST_EXAMPLES = 4
_MULTIPLES = tuple(step / 8 for step in range(1, 9))
"""Multiples of a pattern that are tried on held-out images."""
_ANY_OTHER = "source-adjusted"
"""A statistic for which a search measures the patterns alone."""


@dataclass(frozen=True, slots=True)
class Fragile:
    """What was found, and the images to train with."""

    result: FragileResult
    """The pairs."""
    augmentation: Augmentation
    """Images of their sources with the patterns, under their own labels."""


def find_fragile(
    model: Path | str,
    clean: CleanSet | Path | str,
    *,
    report: ScanResult | None = None,
    most: int = 10,
    sandbox: bool = True,
    progress: Progress | None = None,
    command: str = "",
) -> Fragile:
    """The class pairs that a small common pattern confuses though nobody planted it.

    What the report holds is not searched again: of the listed pairs only the patterns that it lacks are.

    Args:
        model: The ONNX file.
        clean: Clean images, or the archive or folder to load them from.
        report: The scan of the model; None scans it first.
        most: Pairs that are listed.
        sandbox: Whether models are opened in a limited child process.
        progress: Observer.
        command: Command that repeats this, for its report.

    Returns:
        The pairs, most fragile first, with images to train with.

    Raises:
        UserError: paths, images, options or a report that cannot be used.
        NoVerdictError: the model cannot be opened, or its scan gives no pairs.
    """
    if most < 1:
        raise OptionError(f"expected --most of at least 1, found {most}")
    model, steps = Path(model), Steps(progress)
    clean = as_clean_set(clean, report.model.class_names if report else None, sandbox=sandbox)
    scanned = report
    if scanned is None:
        with steps.step("scan"):
            scanned = scan(model, clean, ScanConfig(sandbox=sandbox), command=command)
    ranked = fragile_pairs(scanned)[:most]
    if not scanned.pairs or scanned.preprocessing is None:
        if report is None:
            raise NoVerdictError(f"expected a scan with class pairs, found none: {'; '.join(scanned.reasons)}")
        raise ReportError("expected a report with class pairs, found one without: run `scanner check` with --data")
    with opened_for(scanned, read(model), model.parent, clean, sandbox=sandbox) as subject:
        check_digest(scanned, subject)
        with steps.step("patterns"):
            found, num_searched = _with_patterns(subject, scanned, ranked)
        with steps.step("images that flip first"):
            pairs = tuple(_shown(subject, pair) for pair in found)
        augmentation = Augmentation.of(subject.clean.images, subject.labels, [pair.pattern for pair in pairs])
        device, protections = subject.opened.facts.device, subject.opened.protections
    told = FragileResult(
        model=scanned.model,
        provenance=replace(
            provenance(seed=ScanConfig.from_dict(scanned.config).seed, command=command),
            device=device,
            protections=protections,
        ),
        reasons=_reasons(scanned, pairs),
        pairs=pairs,
        goal_rate=ScanConfig.from_dict(scanned.config).goal_rate,
        num_searched=num_searched,
        left_out=scanned.target if scanned.verdict is Verdict.BACKDOOR_DETECTED else None,
    )
    return Fragile(told, augmentation)


def _with_patterns(subject: Subject, report: ScanResult, ranked: Sequence[PairResult]) -> tuple[list[PairResult], int]:
    """The pairs with their patterns, and how many of these were searched now: those that nobody kept."""
    kept = {each.key: each.values.decode() for each in report.patterns if each.mask is None}
    known = [replace(pair, pattern=kept.get(pair.key)) if pair.pattern is None else pair for pair in ranked]
    missing = [(pair.source, pair.target) for pair in known if pair.pattern is None]
    missing = [pair for pair in missing if pair[0] in subject.images.drawn.optimise]
    if not missing:
        return [pair for pair in known if pair.pattern is not None], 0
    detector = known[0].detector
    if detector not in DETECTORS or DETECTORS[detector].acts_on_features:
        raise ReportError(f"expected pairs of a detector of this version, found {detector!r}: scan again")
    measured = all(commonality_of(pair) is not None for pair in known)
    statistics = (_ANY_OTHER,) if measured else (COMMONALITY,)
    config = replace(ScanConfig.from_dict(report.config), detectors=(detector,), statistics=statistics)
    images = {source: subject.images.search()[source] for source, _ in missing}
    prepared = subject.settled.prepare(detector, images, config, cut=None)
    again = {each.key: each for each in prepared.optimise(missing, seconds=None, on_pair=lambda _: None)}
    found = [_renewed(pair, again.get(pair.key)) for pair in known]
    return [pair for pair in found if pair.pattern is not None], len(again)


def _renewed(pair: PairResult, again: PairResult | None) -> PairResult:
    """A pair of the report with the pattern that was found again, and with what single images need if it lacks that."""
    if again is None or again.pattern is None:
        return pair
    return replace(again, individual_size=pair.individual_size or again.individual_size)


def _shown(subject: Subject, pair: PairResult) -> FragilePair:
    """A pair with what the file decides on held-out source images under multiples of its pattern."""
    assert pair.pattern is not None  # noqa: S101 - others were left out
    assert pair.size is not None  # noqa: S101 - it was reached
    images = subject.images.held_out().get(pair.source, subject.clean.images[:0])
    before = subject.decide(images) if len(images) else np.empty(0, np.int64)
    first = _first_multiples(subject, images, pair)
    flipping = np.flatnonzero(np.isfinite(first) & (before != pair.target))
    chosen = flipping[np.argsort(first[flipping], kind="stable")][:_MOST_EXAMPLES]
    values = pair.pattern.astype(np.float64)
    after = subject.decide(add(images, pair.pattern)) if len(images) else before
    return FragilePair(
        pattern=FoundPattern(
            detector=pair.detector,
            source=pair.source,
            target=pair.target,
            space="image",
            size=pair.size,
            size_l1=float(np.abs(values).sum()),
            size_l2=float(np.sqrt(np.square(values).sum())),
            largest_change=float(np.abs(values).max()),
            values=EncodedArray.encode(pair.pattern),
        ),
        commonality=commonality_of(pair),
        rate=pair.rate or 0.0,
        num_held_out=len(images),
        rate_held_out=float((after == pair.target).mean()) if len(images) else None,
        examples=tuple(
            Example(
                label=pair.source,
                decision_before=int(before[place]),
                decision_after=int(after[place]),
                before_png=encode_png(images[place]),
                after_png=encode_png(add(images[place : place + 1], pair.pattern)[0]),
            )
            for place in chosen
        ),
        multiples=tuple(float(first[place]) for place in chosen),
    )


def _first_multiples(subject: Subject, images: NDArray[np.float32], pair: PairResult) -> NDArray[np.float64]:
    """Smallest tried multiple of the pattern at which each image is at the target, [N]; infinite where none is."""
    assert pair.pattern is not None  # noqa: S101 - others were left out
    first = np.full(len(images), np.inf)
    for multiple in _MULTIPLES if len(images) else ():
        there = subject.decide(add(images, np.float32(multiple) * pair.pattern)) == pair.target
        first[there & np.isinf(first)] = multiple
    return first


def _reasons(report: ScanResult, pairs: Sequence[FragilePair]) -> tuple[str, ...]:
    """What was found and what to do."""
    told = []
    if report.verdict is Verdict.BACKDOOR_DETECTED:
        told.append(
            f"the scan detects a backdoor, so pairs towards class {report.target} are left out: repair the model first"
        )
    if not pairs:
        return (*told, "no pair of classes is confused by a pattern within the size limit")
    told.append(
        "every model has pairs that the smallest common pattern confuses; these are the first of this one, and no sign "
        "of a backdoor by themselves"
    )
    told.append(
        "to make them harder to confuse, train with images of the source classes that carry the patterns under their "
        "own labels: --export-augmentation writes them; then scan again"
    )
    return tuple(told)
