"""From the sizes of all pairs to p-values: the inferences of XMK, and our own.

Pairs that are already confused or have no images do not count. By default neither do those of classes that the model
confuses on clean images, which are small for that reason; as less confused ones are a little smaller too, a pair has to
stand out whether or not that is allowed for. Pairs that ended at a limit enter with twice the largest size tried: with
that size itself, as in XMK 5.2.2, those that need much more would all seem to need as much, which makes the null
narrower than it is. `order_test` judges the reciprocals.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import NormalDist
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backscan.kernels import LeftOut
from backscan.scanner.config import COMMONALITY, MARGIN_CONTRAST, TARGET_STATISTICS
from backscan.scanner.errors import InternalError
from backscan.scanner.inference.correction import p_value_by_null
from backscan.scanner.inference.margins import beside_margins, margin_matrix, weighed_by_margins
from backscan.scanner.inference.statistics import OF_SOME_PAIRS

# The command line reads the table to list its choices, so what is heavy is imported where it is used.
if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.inference.order_test import Screened
    from backscan.scanner.results import Inference, Pair, PairResult, ScreenRecord


_QUANTILE = NormalDist().inv_cdf


@dataclass(frozen=True, slots=True)
class InferenceVariant:
    """What one inference of XMK does differently."""

    corrects_confusion: bool
    """Add the offset of equation (7) to every size."""
    left_out: LeftOut
    """What the null is not fitted to."""
    allows_for_confusion: bool = False
    """Whether classes that the model confuses without any pattern make no pair, and another one has to stand out both
    as it is and with every size enlarged by what confusion makes it smaller."""
    beyond_tail: bool = False
    """Whether the largest of pairs has to lie beyond the tail of those with other targets, as look-alikes do not; as it
    is, or beside what the margins of the clean images explain."""


_NO_WHOLE_TARGETS = (
    "leave-target-out compares whole targets and only some pairs were searched, so the principal test stands"
)
_NO_MARGINS = "clean margins are not known of most pairs, so contrasts of targets are those of sizes alone"
_MOST_NAMED = 5
# Initial rate that is no confusion.
_LEAST_RATE = 0.01
MOST_CONFUSED = 0.25
"""Share of a class that the model decides as another on clean images from which on the two are confused: half of the
way to a coin's. A class that was split in two, or stands twice among the labels, is confused by half."""

INFERENCES: Mapping[str, InferenceVariant] = MappingProxyType(
    {
        "distinct": InferenceVariant(
            corrects_confusion=False, left_out=LeftOut.LARGEST, allows_for_confusion=True, beyond_tail=True
        ),
        "unconfused": InferenceVariant(corrects_confusion=False, left_out=LeftOut.LARGEST, allows_for_confusion=True),
        "principal": InferenceVariant(corrects_confusion=False, left_out=LeftOut.LARGEST),
        "corrected": InferenceVariant(corrects_confusion=True, left_out=LeftOut.LARGEST),
        "leave-target-out": InferenceVariant(corrects_confusion=False, left_out=LeftOut.TARGET),
        "naive": InferenceVariant(corrects_confusion=False, left_out=LeftOut.NOTHING),
    }
)


def with_reciprocals(pairs: Sequence[PairResult], *, inference: str, order: int) -> tuple[PairResult, ...]:
    """The pairs with `reciprocal`, and for an inference that corrects for confusion `offset`, filled in.

    Args:
        pairs: Results of the search.
        inference: Name in `INFERENCES`.
        order: Order M of the polynomial in equation (7).

    Returns:
        The pairs in the same order; those that do not count have neither.

    Raises:
        InternalError: a pair that counts has no positive size.
    """
    variant = INFERENCES[inference]
    found = [_with_reciprocal(pair, order if variant.corrects_confusion else None) for pair in pairs]
    if not variant.allows_for_confusion:
        return tuple(found)
    left_out = confused_pairs(pairs)
    return tuple(replace(pair, reciprocal=None) if (pair.source, pair.target) in left_out else pair for pair in found)


def nearness(initial_rate: float, goal_rate: float) -> float:
    """What share of the way from no confusion to the goal rate is left for a pair that starts at some rate, in (0, 1].

    If the margins of the source's images are normal and a common pattern moves their mean, the way from a rate to
    another is the difference of their normal quantiles. Rates below a hundredth are told apart by no sample of images.
    """
    goal, start = (
        _QUANTILE(min(goal_rate, 1.0 - _LEAST_RATE)),
        _QUANTILE(min(max(initial_rate, _LEAST_RATE), 1.0 - _LEAST_RATE)),
    )
    return max(goal - start, 1e-3) / (goal - _QUANTILE(_LEAST_RATE))


def confused_pairs(pairs: Sequence[PairResult]) -> dict[Pair, float]:
    """The pairs of classes that the model confuses on clean images in either direction, with the larger share."""
    rates = {(pair.source, pair.target): pair.initial_rate or 0.0 for pair in pairs}
    either_way = {pair: max(rate, rates.get((pair[1], pair[0]), 0.0)) for pair, rate in rates.items()}
    return {pair: rate for pair, rate in either_way.items() if rate >= MOST_CONFUSED}


def infer_pairs(
    pairs: Sequence[PairResult],
    config: ScanConfig,
    num_classes: int,
    *,
    detector: str,
    space: str,
    screen: ScreenRecord | None = None,
) -> tuple[Inference, ...]:
    """Judge all pairs of one detector.

    Args:
        pairs: Results of the search, with or without reciprocals.
        config: Statistics, inference, null, significance, bootstrap and seed.
        num_classes: Classes K of the model.
        detector: Name in the table of detectors.
        space: Where the patterns act.
        screen: Which of the pairs stand for all, if only some were searched.

    Returns:
        One inference per statistic; what to make of a null that was not reached is up to the caller.

    Raises:
        InternalError: a pair that counts has no positive size.
    """
    if screen is not None and INFERENCES[config.inference].left_out is LeftOut.TARGET:
        found = infer_pairs(
            pairs, replace(config, inference="principal"), num_classes, detector=detector, space=space, screen=screen
        )
        return tuple(replace(each, remarks=(*each.remarks, _NO_WHOLE_TARGETS)) for each in found)
    prepared = with_reciprocals(pairs, inference=config.inference, order=config.order)
    reciprocals = reciprocal_matrix(prepared, num_classes)
    screened = None if screen is None else _screened(prepared, screen, num_classes)
    statistics = config.statistics if screened is None else (OF_SOME_PAIRS,)
    margins = margin_matrix(pairs, num_classes)
    concluded: list[Inference] = []
    for name in statistics:
        if name == COMMONALITY:
            if config.measures_individuals_of(detector):
                concluded += _by_commonality(prepared, reciprocals, config, detector=detector, space=space)
            continue
        judge = partial(
            _infer,
            statistic=name,
            config=config,
            screened=screened,
            detector=detector,
            space=space,
            margins=margins if name not in TARGET_STATISTICS else None,
        )
        weighed = weighed_by_margins(reciprocals, margins) if name == MARGIN_CONTRAST else reciprocals
        told = _either_way(judge, reciprocals if weighed is None else weighed, prepared, config, statistic=name)
        concluded.append(told if weighed is not None else replace(told, remarks=(*told.remarks, _NO_MARGINS)))
    remarks = _unreached(pairs)
    remarks += _left_out(pairs) if INFERENCES[config.inference].allows_for_confusion else ()
    return tuple(replace(each, remarks=(*each.remarks, *remarks)) for each in concluded)


def _either_way(
    judge: Callable[[NDArray[np.float64]], Inference],
    reciprocals: NDArray[np.float64],
    pairs: Sequence[PairResult],
    config: ScanConfig,
    *,
    statistic: str,
) -> Inference:
    """The conclusion from some reciprocals; of pairs, where confusion is to be allowed for, the weaker of two."""
    as_they_are = judge(reciprocals)
    if not INFERENCES[config.inference].allows_for_confusion or statistic in TARGET_STATISTICS:
        return as_they_are
    near = np.ones_like(reciprocals)
    for pair in pairs:
        near[pair.source, pair.target] = nearness(pair.initial_rate or 0.0, config.goal_rate)
    if (near == 1.0).all():
        return as_they_are
    allowed_for = judge(reciprocals * near)

    def weakness(conclusion: Inference) -> float:
        own = conclusion.p_value if config.published_p else conclusion.calibrated_p_value
        return math.inf if own is None else own

    weaker = max(as_they_are, allowed_for, key=weakness)
    if weaker.fitted_p_value is not None:
        fitted = (p_value_by_null(each, published=config.published_p) for each in (as_they_are, allowed_for))
        weaker = replace(weaker, fitted_p_value=max(1.0 if p is None else p for p in fitted))
    sizes = [each.detectable_size for each in (as_they_are, allowed_for) if each.detectable_size is not None]
    return replace(weaker, detectable_size=min(sizes) if len(sizes) == 2 else None)  # a pair has to be found both ways


def _unreached(pairs: Sequence[PairResult]) -> tuple[str, ...]:
    """How many pairs ended at a limit, and what they count as, as a sentence if there are any."""
    from backscan.scanner.results import PairStatus

    counting = [pair for pair in pairs if pair.status.counts]
    number = sum(pair.status is not PairStatus.REACHED for pair in counting)
    if not number:
        return ()
    return (f"{number} of {len(counting)} pairs ended at a limit and count as twice the largest size tried",)


def _left_out(pairs: Sequence[PairResult]) -> tuple[str, ...]:
    """Which classes make no pair because the model confuses them, as a sentence if there are any."""
    left_out = {(min(pair), max(pair)): rate for pair, rate in confused_pairs(pairs).items()}
    if not left_out:
        return ()
    told = [f"{one} and {other} ({rate:.0%})" for (one, other), rate in sorted(left_out.items())[:_MOST_NAMED]]
    more = f" and {len(left_out) - _MOST_NAMED} more" if len(left_out) > _MOST_NAMED else ""
    return (f"the model confuses classes {', '.join(told)}{more} on clean images, so these make no pair",)


def _by_commonality(
    pairs: Sequence[PairResult], reciprocals: NDArray[np.float64], config: ScanConfig, *, detector: str, space: str
) -> Iterator[Inference]:
    """The conclusion from the commonality of every pair, and the one from its mean of every target."""
    from backscan.scanner.inference.commonality import OF_TARGETS, commonality_matrix, judge_targets
    from backscan.scanner.inference.target_test import NUM_DRAWS

    matrix = commonality_matrix(pairs, len(reciprocals))
    of_pairs = _infer(matrix, COMMONALITY, config, None, detector=detector, space=space)
    few = len({pair.source for pair in pairs if _has_few_images(pair)})
    if few:
        remark = f"{few} classes have too few images for what single images need, and are no source of commonality"
        of_pairs = replace(of_pairs, remarks=(*of_pairs.remarks, remark))
    # No common pattern is smaller by it alone, so it does not say what size would have been found.
    yield replace(of_pairs, detectable_size=None)
    targets = judge_targets(pairs, matrix, goal_rate=config.goal_rate, seed=config.seed)
    test, figures = targets.test, targets.figures
    target = test.order[0] if test.num_together else None
    deciding = test.largest_p_value if config.published_p else test.p_value
    yield replace(
        of_pairs,
        statistic=OF_TARGETS,
        num_pairs=len(test.order),
        values=(tuple(None if value is None else math.exp(value) for value in figures.values),),
        null=None,
        source=None if target is None else int(np.nanargmax(matrix[:, target])),
        target=target,
        p_value=test.largest_p_value,
        calibrated_p_value=test.p_value,
        bootstrap_draws=0 if target is None else NUM_DRAWS,
        detected=deciding is not None and deciding <= config.significance,
        detectable_size=None,
        remarks=(),
        targets=figures,
        fitted_p_value=None,
        abnormal=(),
    )


def _has_few_images(pair: PairResult) -> bool:
    return pair.individual_size is not None and pair.individual_size.size is None


def _screened(pairs: Sequence[PairResult], screen: ScreenRecord, num_classes: int) -> Screened:
    """How the searched pairs stand for all of them."""
    from backscan.scanner.inference.order_test import Screened

    drawn = [(pair.source, pair.target) for pair in pairs if not pair.chosen]
    return Screened(positions(drawn, num_classes), screen.num_pairs)


def _infer(
    reciprocals: NDArray[np.float64],
    statistic: str,
    config: ScanConfig,
    screened: Screened | None,
    *,
    detector: str,
    space: str,
    margins: NDArray[np.float64] | None = None,
) -> Inference:
    """The conclusion from one statistic of the reciprocals [K, K], and of pairs their clean margins [K, K]."""
    from backscan.scanner.inference.order_test import Terms, assess
    from backscan.scanner.results import Inference, without_nan

    variant = INFERENCES[config.inference]
    terms = Terms(
        statistic=statistic,
        left_out=variant.left_out,
        beyond_tail=variant.beyond_tail,
        null=config.null,
        significance=config.significance,
        num_tests=config.num_tests if screened is None else config.num_tests_of((OF_SOME_PAIRS,)),
        published_p=config.published_p,
        bootstrap_draws=config.bootstrap_draws,
        seed=config.seed,
        threads=config.threads or os.cpu_count() or 1,
    )
    beside = None
    if variant.beyond_tail and screened is None and margins is not None:
        beside = beside_margins(reciprocals, margins)
    assessment = assess(reciprocals, terms, screened, beside=beside)
    deciding = assessment.p_value if terms.published_p else assessment.calibrated_p_value
    fitted = assessment.fitted_p_values[0 if terms.published_p else 1]
    rows = [(row, not np.isnan(row).all()) for row in assessment.values]
    return Inference(
        detector=detector,
        space=space,
        norm=config.norm,
        statistic=terms.statistic,
        inference=config.inference,
        num_pairs=assessment.num_pairs,
        # Of many classes most may have no pair: a thousand empty rows instead of a million empty places.
        values=tuple(without_nan(row) if screened is None or known else () for row, known in rows),
        null=assessment.null,
        source=assessment.source,
        target=assessment.target,
        p_value=assessment.p_value,
        calibrated_p_value=assessment.calibrated_p_value,
        bootstrap_draws=assessment.bootstrap_draws,
        detected=deciding is not None and deciding <= terms.significance,
        detectable_size=assessment.detectable_size,
        remarks=assessment.remarks,
        abnormal=assessment.abnormal,
        fitted_p_value=fitted if deciding != fitted else None,
    )


def reciprocal_matrix(pairs: Sequence[PairResult], num_classes: int) -> NDArray[np.float64]:
    """Reciprocals by source and target, [K, K], NaN where a pair is missing or does not count."""
    matrix = np.full((num_classes, num_classes), np.nan)
    for pair in pairs:
        if pair.reciprocal is not None:
            matrix[pair.source, pair.target] = pair.reciprocal
    return matrix


def positions(pairs: Sequence[Pair], num_classes: int) -> NDArray[np.bool_]:
    """Where some pairs are, bool [K, K]."""
    where = np.zeros((num_classes, num_classes), dtype=bool)
    for source, target in pairs:
        where[source, target] = True
    return where


def _with_reciprocal(pair: PairResult, order: int | None) -> PairResult:
    """One pair with its reciprocal; `order` of equation (7), or None to leave confusion as it is."""
    if not pair.status.counts:
        return replace(pair, offset=None, reciprocal=None)
    if pair.needed is None or not pair.needed > 0.0:
        raise InternalError(f"expected a positive size of pair {pair.source}:{pair.target}, found {pair.size}")
    from backscan.kernels import size_offset

    offset = None if order is None else size_offset(pair.trajectory.sizes, pair.trajectory.rates, order)
    return replace(pair, offset=offset, reciprocal=1.0 / (pair.needed + (offset or 0.0)))
