"""One verdict of several witnesses: what they say of targets together, and what they say of pairs.

A witness is one conclusion. Those that have a value for every target are combined target by target: each may name an
attack alone, and those that half see the same target add up (`kernels/agreement.py`). Those that have one for every
pair share their p-values: the smallest counts, times their number. The two combined conclusions decide, and the
witnesses are part of them; with one witness of a kind that witness itself decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backscan.kernels import agreement_scores, largest_sums, normal_scores, null_of_agreement
from backscan.scanner.config import COMMONALITY, PAIRS_IN_SPACES, TARGET_STATISTICS
from backscan.scanner.inference.commonality import OF_TARGETS
from backscan.scanner.inference.correction import p_value_by_null
from backscan.scanner.inference.target_test import FEWEST_TARGETS, SimulatedNull, target_test
from backscan.scanner.results import (
    OF_FEW_CLASSES,
    OF_PAIRS_TOGETHER,
    OF_TARGETS_TOGETHER,
    TARGET_MASK,
    TARGET_RATE,
    TARGET_REACH,
    Witness,
    find_target,
    without_nan,
)

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.results import Inference, PairResult, TargetResult

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

NUM_DRAWS = 9_999
"""Simulated samples of the agreement of targets, or as many as the calibration needs if these are more."""
# Correlation of two witnesses across the targets of unattacked networks, and of one witness in two spaces:
# `python -m benchmarks.accuracy.witnesses` has them, of digits and of photographs.
# Rates of several contents, windows of two sizes among them, lie between (`benchmarks.accuracy.contents` for others).
_CORRELATION, _SAME_STATISTIC, _BOTH_RATES = 0.3, 0.9, 0.6
# Share of the highest rate from which on a source follows as often as that one, give or take a few of 40 images.
_NEARLY = 0.9
_OF_TARGETS = frozenset({*TARGET_STATISTICS, OF_TARGETS, TARGET_RATE, TARGET_MASK})


def combined(
    conclusions: Sequence[Inference],
    pairs: Sequence[PairResult],
    targets: Sequence[TargetResult],
    config: ScanConfig,
) -> tuple[Inference, ...]:
    """The conclusions with what follows from them together, which then decides in their place.

    Args:
        conclusions: Of all detectors.
        pairs: Every searched pair, which says what source shows a target best.
        targets: Every searched target, likewise.
        config: Significance, and the seed of the simulation.
    """
    conclusions = _each_once(conclusions)
    deciding = [entry for entry in conclusions if entry.decides and entry.calibrated_p_value is not None]
    # A witness that lacks a target decides by itself: combined it would silence the others about that one.
    of_targets = _complete([entry for entry in deciding if entry.statistic in _OF_TARGETS])
    # What is said of few classes has a floor of its own that no correction for others may raise further.
    apart = _OF_TARGETS | {*OF_FEW_CLASSES, TARGET_REACH}
    of_pairs = [entry for entry in deciding if entry.statistic not in apart]
    # On trained networks the commonality of a single pair found nothing that its size did not: it only informs.
    of_sizes = [entry for entry in of_pairs if entry.statistic != COMMONALITY] or of_pairs
    informs = {id(entry) for entry in of_pairs} - {id(entry) for entry in of_sizes}
    together: list[Inference] = []
    parts: dict[int, str] = {}
    if len(of_targets) > 1 and _targets_of(of_targets[0]).sum() >= FEWEST_TARGETS:
        together.append(_targets_together(of_targets, pairs, targets, config))
        parts |= {id(entry): OF_TARGETS_TOGETHER for entry in of_targets}
    if len(of_sizes) > 1:
        together.append(_pairs_together(of_sizes, config))
        parts |= {id(entry): OF_PAIRS_TOGETHER for entry in of_sizes}
    marked = (
        replace(entry, decides=False, part_of=parts.get(id(entry))) if id(entry) in parts.keys() | informs else entry
        for entry in conclusions
    )
    return (*together, *marked)


def _each_once(conclusions: Sequence[Inference]) -> list[Inference]:
    """The conclusions; of two contents that were searched at the same size, and so alike, the second informs."""
    rates: dict[tuple[tuple[float | None, ...], ...], str] = {}
    marked = []
    for entry in conclusions:
        is_one = entry.decides and entry.statistic == TARGET_RATE and entry.calibrated_p_value is not None
        if is_one and (first := rates.setdefault(entry.values, entry.detector)) != entry.detector:
            told = f"the same as by detector {first}, which decides"
            entry = replace(entry, decides=False, remarks=(*entry.remarks, told))
        marked.append(entry)
    return marked


def _complete(witnesses: Sequence[Inference]) -> list[Inference]:
    """The witnesses that have a value of every target that any of them has one of."""
    if not witnesses:
        return []
    present = np.stack([_targets_of(entry) for entry in witnesses])
    every = present.any(axis=0)
    return [entry for entry, own in zip(witnesses, present, strict=True) if (own == every).all()]


def _targets_of(witness: Inference) -> NDArray[np.bool_]:
    """Whether a witness has a value of each target, [K]."""
    there: NDArray[np.bool_] = ~np.isnan(values_of_targets(witness))
    return there


def _pairs_together(witnesses: Sequence[Inference], config: ScanConfig) -> Inference:
    """The most extreme of some conclusions about pairs, its p-values times their number."""
    ordered = sorted(witnesses, key=lambda entry: (entry.calibrated_p_value, entry.p_value))
    first, number = ordered[0], len(ordered)
    fitted = [p for entry in ordered if (p := p_value_by_null(entry, published=config.published_p)) is not None]
    look_alike = any(entry.fitted_p_value is not None for entry in ordered)
    p_value, calibrated = (
        None if value is None else min(1.0, number * value) for value in (first.p_value, first.calibrated_p_value)
    )
    return replace(
        first,
        statistic=OF_PAIRS_TOGETHER,
        carried_by=first.statistic,
        p_value=p_value,
        calibrated_p_value=calibrated,
        detected=calibrated is not None and calibrated <= config.significance,
        detectable_size=next((e.detectable_size for e in ordered if e.detectable_size is not None), None),
        fitted_p_value=min(1.0, number * min(fitted)) if look_alike else None,
        witnesses=tuple(
            Witness(entry.detector, entry.statistic, entry.source, entry.target, entry.calibrated_p_value)
            for entry in ordered
        ),
        remarks=(),
    )


def _targets_together(
    witnesses: Sequence[Inference],
    pairs: Sequence[PairResult],
    targets: Sequence[TargetResult],
    config: ScanConfig,
) -> Inference:
    """What the witnesses say of the targets that all of them have a value of."""
    values = np.stack([values_of_targets(entry) for entry in witnesses])
    present = np.flatnonzero(_targets_of(witnesses[0]))
    correlation = correlation_of([entry.statistic for entry in witnesses])
    scores, order = agreement_scores(values[None][:, :, present], correlation)
    # Each number of targets has its own least p-value, and the smallest of them counts.
    num_draws = max(NUM_DRAWS, scores.shape[1] * config.bootstrap_draws)
    null = _null(present.size, tuple(map(tuple, correlation.tolist())), num_draws, config.seed)
    by_itself = [float(null.p_value(np.array(score), j)) for j, score in enumerate(scores[0], start=1)]
    num_together = int(np.argmin(by_itself)) + 1
    named = tuple(present[order[0, :num_together]].tolist())
    own = {id(entry): target_test(row, seed=config.seed) for entry, row in zip(witnesses, values, strict=True)}
    t = np.stack([own[id(entry)].t[present] for entry in witnesses])
    alone = np.full(values.shape[1], math.nan)
    alone[present] = largest_sums(normal_scores(t, present.size - 2), correlation)
    ordered = sorted(witnesses, key=lambda entry: -own[id(entry)].t[named[0]])
    told = tuple(
        Witness(
            entry.detector,
            entry.statistic,
            _source(entry.detector, named[0], pairs, targets),
            named[0],
            entry.calibrated_p_value,
            _finite(own[id(entry)].t[named[0]]),
        )
        for entry in ordered
    )
    p_value = null.joint_p_value(min(by_itself))
    return replace(
        ordered[0],
        statistic=OF_TARGETS_TOGETHER,
        carried_by=ordered[0].statistic,
        num_pairs=int(present.size),
        values=(without_nan(alone),),
        null=None,
        source=told[0].source,
        target=named[0],
        p_value=min(by_itself),
        calibrated_p_value=p_value,
        bootstrap_draws=num_draws,
        detected=p_value <= config.significance,
        detectable_size=None,
        fitted_p_value=None,
        abnormal=(),
        witnesses=told,
        remarks=(f"targets {', '.join(map(str, named))} stand out together",) if num_together > 1 else (),
        targets=None,
    )


def correlation_of(statistics: Sequence[str]) -> Matrix:
    """Correlation of witnesses across the targets of an unattacked model, [W, W]."""
    # Both statistics of sizes by target see how small the patterns are that lead to it.
    kinds = ["sizes" if name in TARGET_STATISTICS else name for name in statistics]
    same = np.array([[one == other for other in kinds] for one in kinds])
    rates = np.array([name == TARGET_RATE for name in statistics])
    correlation: Matrix = np.where(same, _SAME_STATISTIC, _CORRELATION)
    correlation[np.ix_(rates, rates)] = _BOTH_RATES
    np.fill_diagonal(correlation, 1.0)
    return correlation


def values_of_targets(entry: Inference) -> Vector:
    """The value of every target on a scale on which unattacked ones are about normal, [K]; NaN without one."""
    [row] = entry.values
    values = np.array([math.nan if value is None else value for value in row])
    # The mean of log c is reported as a quotient, sizes and masks as reciprocals; a rate is a logit already.
    return values if entry.statistic == TARGET_RATE else np.log(values)


def _source(detector: str, target: int, pairs: Sequence[PairResult], targets: Sequence[TargetResult]) -> int | None:
    """The source class that shows a target best: of the smallest pattern, or of the highest rate.

    Content that works on many classes hardly tells which of them was attacked: of those that follow it nearly as often
    as the first, the one with the smallest pattern is named.
    """
    if sizes := _sizes_to(target, pairs, detector):
        return min(sizes, key=lambda source: (sizes[source], source))
    entry = find_target(targets, detector, target)
    if entry is None or entry.support is None:
        return None
    sizes, rates = _sizes_to(target, pairs, PAIRS_IN_SPACES), entry.support.rates
    near = [source for source, rate in rates.items() if source in sizes and rate >= _NEARLY * max(rates.values())]
    return min(near, key=lambda source: (sizes[source], source), default=entry.support.first_source)


def _sizes_to(target: int, pairs: Sequence[PairResult], detector: str) -> dict[int, float]:
    """Size of the pattern of each source towards a target by one detector, of the pairs that count."""
    return {
        pair.source: pair.size
        for pair in pairs
        if (pair.detector, pair.target) == (detector, target) and pair.reciprocal is not None and pair.size is not None
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


@lru_cache(maxsize=8)
def _null(num_targets: int, correlation: tuple[tuple[float, ...], ...], num_draws: int, seed: int) -> SimulatedNull:
    """The null of some witnesses and targets, kept for the next caller."""
    return SimulatedNull.of(null_of_agreement(num_targets, np.array(correlation), num_draws, seed))
