"""The test on one matrix of reciprocals: null, p-values, and what could have been detected.

What counts (XMK section 3.1.3 where pairs are missing). Of the n pairs that have a statistic, as many of the largest
are left out of the fit as pairs with a statistic share one target: K - 1 when none is missing, for an attack with one
target can hold no more. The null is fitted to the others, (K - 1)^2 when none is missing, conditional on lying below
the smallest left out, and n is the exponent of equation (4).

Where that is asked for, a pair has to lie beyond the tail of the pairs that are of no attack with it, too. Natural
classes that look alike make a heavier tail than the body of the pairs shows, so that on unattacked models of traffic
signs the fitted null alone calls a pair of speed limits abnormal; what was planted lies apart from such pairs. One that
does not is judged once more beside what the margins of the clean images explain (`margins`): look-alikes then come back
to the others, and a planted pair may lie apart.

Where only some pairs were searched (`screen`), all this is done with those that were drawn at random, which are a
sample of all; the largest statistic of every searched pair is judged, and the exponent is the number of all pairs. The
largest of the searched pairs is at most the largest of all, so the test can only be conservative.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from backscan.kernels import (
    NULL_FAMILIES,
    ExtremeTests,
    FitStatus,
    LeftOut,
    NullFamily,
    bootstrap_log_p_values,
    calibrated_p_value,
    count_excluded,
    judge_extremes,
    judge_targets_apart,
    log_order_p_value,
)
from backscan.kernels.runs import leading_run, run_p_value
from backscan.kernels.spacings import IN_TAIL, log_tail_p_values
from backscan.scanner.inference.statistics import FEWEST_BY_SPREAD, STATISTICS
from backscan.scanner.inference.target_test import one_against_others, student_tail
from backscan.scanner.results import Curve, NullFit

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
_Both = tuple[float | None, float | None]

_CURVE_POINTS = 200
_FOUND = 0.8
"""Share of planted pairs of which a size is told at which they would be found."""
_MOST_PLANTED = 48
"""Pairs that are planted to find it."""
_MULTIPLES, _HALVINGS = np.geomspace(1.0, 1e5, 20), 11
"""Reciprocals with which they are, in that of the middle pair; and how often the way between two is halved."""
LARGEST_TAIL = 0.1
"""P-value by the tail of the others from which on a pair passes for two classes that look alike. It is a condition and
no further test, so it is not corrected for their number."""
_BY_CHANCE = 0.01
"""Most that the p-value of a run of pairs may be that pass for one attack, from some classes to another one each."""
_NOT_BY_SPREAD = "so p is 1: test more classes or another null"
_SMALLEST_P = sys.float_info.min  # a p-value that underflows is this one, never 0


@dataclass(frozen=True, slots=True)
class Terms:
    """How a matrix of reciprocals is judged; the fields are options of the command line."""

    statistic: str = "plain"
    """Name in `STATISTICS`."""
    left_out: LeftOut = LeftOut.LARGEST
    """What the null is not fitted to."""
    null: str = "gamma"
    """Name in the table of null families."""
    significance: float = 0.05
    """Threshold on the deciding p-value."""
    num_tests: int = 1
    """Tests behind one verdict: each must reach the significance divided by their number."""
    beyond_tail: bool = False
    """Whether the largest of pairs has to lie beyond the tail of those with other targets."""
    published_p: bool = False
    """Whether the published p-value decides instead of the calibrated one."""
    bootstrap_draws: int = 999
    """Draws of the calibration; 0 makes none."""
    seed: int = 0
    """Seed of the draws."""
    threads: int = 1
    """Threads that share the draws; they do not change the result."""
    tells_power: bool = True
    """Whether the size is found at which planted pairs would have been detected, which takes as long as 1500 draws."""

    @property
    def family(self) -> NullFamily:
        """The null family."""
        return NULL_FAMILIES[self.null]


@dataclass(frozen=True, slots=True)
class Screened:
    """How the searched pairs stand for all pairs of a model with many classes."""

    drawn: NDArray[np.bool_]
    """Pairs that were drawn at random, to which the null is fitted, [K, K]."""
    num_pairs: int
    """All pairs whose source has images, searched or not: the exponent of equation (4)."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the test says about one matrix of reciprocals."""

    values: Matrix
    """The statistic of every pair, [K, K], or of every target, [1, K]; NaN where one does not count."""
    null: NullFit | None = None
    """Fitted null; None if no pair counts."""
    source: int | None = None
    """Source class of the largest statistic."""
    target: int | None = None
    """Its target class."""
    p_value: float | None = None
    """Order-statistic p-value, equation (4); None without a fit."""
    calibrated_p_value: float | None = None
    """The same, calibrated by the bootstrap; None without a fit or if no draws were asked for."""
    bootstrap_draws: int = 0
    """Draws that were made."""
    detectable_size: float | None = None
    """Size at which four of five pairs, had they been planted, would have been detected; None if unknown."""
    tail_p_value: float = 0.0
    """P-value of the largest by the tail of the others; 0 where it lies beyond it. Both p are at least that, or what
    they are beside the margins if that is less."""
    fitted_p_values: tuple[float | None, float | None] = (None, None)
    """Both p without that."""
    remarks: tuple[str, ...] = ()
    """What a reader should know."""
    num_pairs: int = 0
    """Pairs that count: the exponent of equation (4)."""
    abnormal: tuple[tuple[int, int], ...] = ()
    """Pairs that would be significant each as the largest, the most extreme first; empty of values of targets."""


def assess(
    reciprocals: Matrix, terms: Terms, screened: Screened | None = None, *, beside: Matrix | None = None
) -> Assessment:
    """Test whether the largest statistic of all pairs is too large for the null. XMK section 3.1.3.

    Args:
        reciprocals: 1 / size of each (source, target) pair, positive, [K, K]; NaN on the diagonal and where a pair
            does not count. For the corrected inference they are the corrected ones.
        terms: How to judge.
        screened: Which of the pairs stand for all, if only some were searched; None if all were. Not with
            `LeftOut.TARGET`, which compares whole targets.
        beside: The reciprocals without what clean margins explain of them, [K, K], see `margins.beside_margins`: where
            the largest pair is not beyond the tail of the others, one with the same target may be so there.

    Returns:
        The assessment. At the boundary both p are by the spread of the logarithms, 1 with too few pairs for that; so is
        the calibrated p of a statistic where the reciprocals themselves are there; a failed null has no p.

    Raises:
        ValueError: not a square matrix, or reciprocals that are not positive and finite.
    """
    given = reciprocals[~np.isnan(reciprocals)]
    if reciprocals.ndim != 2 or len(set(reciprocals.shape)) != 1 or np.any(given <= 0.0) or np.any(np.isinf(given)):
        raise ValueError(
            f"expected a square matrix of positive reciprocals, found shape {reciprocals.shape} with "
            f"{int(np.count_nonzero(~((given > 0.0) & np.isfinite(given))))} that are not"
        )
    values = STATISTICS[terms.statistic](reciprocals)
    if np.isnan(values if screened is None else values[screened.drawn]).all():
        return Assessment(values, remarks=("no pair has a statistic, so nothing was tested",))
    observed = _observe(values, terms, screened)
    raw = observed if terms.statistic == "plain" else _observe(reciprocals, terms, screened)
    log_p_draws = _bootstrap(raw, terms) if FitStatus.REACHED == raw.status == observed.status else np.empty(0)
    source, target = _most_extreme(observed, reciprocals)
    tells_power = terms.tells_power and values.shape == reciprocals.shape
    fitted = _published(observed), _calibrated(observed, raw, log_p_draws, terms)
    agrees = None if observed.tail == 0.0 or beside is None else _beyond_beside(beside, target, terms)
    if agrees is not None and agrees.source is not None:
        source = agrees.source
    tail = 1.0 if 0.0 < observed.tail <= terms.significance else observed.tail
    p_value, calibrated = _limited(fitted, tail, agrees)
    return Assessment(
        values=values,
        null=_null_fit(observed, terms),
        source=source,
        target=target,
        p_value=p_value,
        calibrated_p_value=calibrated,
        tail_p_value=observed.tail,
        fitted_p_values=fitted,
        bootstrap_draws=log_p_draws.size,
        detectable_size=_detectable_size(raw, log_p_draws, terms) if tells_power else None,
        remarks=tuple(_remarks(observed, raw, terms, screened, agrees)),
        num_pairs=observed.num_pairs,
        abnormal=_abnormal(observed, terms, agrees) if values.shape == reciprocals.shape else (),
    )


def _beyond_beside(beside: Matrix, target: int, terms: Terms) -> Assessment | None:
    """The test beside the margins, if it is significant by itself and names the same target."""
    found = assess(beside, replace(terms, tells_power=False))
    p_value = found.p_value if terms.published_p else found.calibrated_p_value
    is_beyond = p_value is not None and p_value <= terms.significance
    return found if is_beyond and found.target == target else None


def _limited(fitted: _Both, tail: float, agrees: Assessment | None) -> _Both:
    """Both p-values under the condition on the tail.

    Args:
        fitted: Both p by the fitted null.
        tail: P-value by the tail of the others, 0 where the largest lies beyond it.
        agrees: The test beside the margins where that is significant and names the same target.
    """
    beside = (None, None) if agrees is None else (agrees.p_value, agrees.calibrated_p_value)
    limits = (tail if p is None else min(tail, p) for p in beside)
    published, calibrated = (None if p is None else max(p, limit) for p, limit in zip(fitted, limits, strict=True))
    return published, calibrated


def _abnormal(observed: _Observed, terms: Terms, agrees: Assessment | None) -> tuple[tuple[int, int], ...]:
    """Pairs whose order-statistic p-value would be significant after the correction, had they been the largest.

    Those beyond the tail, or significant beside the margins, where that test names the same target.
    """
    if observed.status != FitStatus.REACHED:
        return ()
    known = ~np.isnan(observed.values)
    parameters = np.tile(np.array(observed.parameters), (int(known.sum()), 1))
    log_sf = terms.family.log_sf(observed.values[known], parameters)
    log_p = log_order_p_value(log_sf, observed.num_pairs)
    beyond = np.flatnonzero(log_p <= math.log(terms.significance / terms.num_tests))
    pairs = np.argwhere(known)[beyond[np.argsort(log_p[beyond], kind="stable")]]
    if terms.beyond_tail:
        values = np.broadcast_to(observed.values, (len(pairs), *observed.values.shape))
        apart = _tail_p_values(values, pairs) == 0.0
        if agrees is not None:
            apart |= np.array([tuple(pair) in agrees.abnormal for pair in pairs.tolist()], dtype=bool)
        pairs = pairs[apart]
    return tuple((int(source), int(target)) for source, target in pairs)


def _most_extreme(observed: _Observed, reciprocals: Matrix) -> tuple[int, int]:
    """Source and target of the largest statistic; of one value per target, the source with the smallest pattern.

    Where targets are judged apart it is the largest of the most extreme one.
    """
    target = observed.target
    if target is None:
        target = int(np.unravel_index(int(np.nanargmax(observed.values)), observed.values.shape)[1])
    of_pairs = observed.values if observed.values.shape == reciprocals.shape else reciprocals
    return int(np.nanargmax(of_pairs[:, target])), target


@dataclass(frozen=True, slots=True)
class _Observed:
    """The test on one matrix."""

    values: Matrix
    """Statistics, [K, K] or [1, K], NaN where there is none."""
    present: NDArray[np.bool_]
    """Where there is a statistic that the null may be fitted to, in the shape of `values`."""
    num_pairs: int
    """Exponent of equation (4)."""
    status: FitStatus
    """How the fit of the null ended."""
    parameters: tuple[float, ...]
    """Fitted parameters."""
    cutoff: float | None
    """Smallest excluded statistic."""
    num_fitted: int
    """Statistics the null was fitted to."""
    largest: float
    """The statistic that is judged."""
    log_p: float
    """Logarithm of the order-statistic p-value."""
    tail: float = 0.0
    """P-value by the tail of the pairs that are of no attack with the largest; 0 where it lies beyond it."""
    target: int | None = None
    """The most extreme target, where they are judged apart."""

    @property
    def sample(self) -> Vector:
        """The statistics, [n]."""
        return self.values[~np.isnan(self.values)]


def _observe(values: Matrix, terms: Terms, screened: Screened | None) -> _Observed:
    """Run the test on one matrix."""
    known = ~np.isnan(values)
    present = known if screened is None else known & screened.drawn
    num_pairs = int(np.count_nonzero(known)) if screened is None else screened.num_pairs
    tests, targets = _judge(values[None], present, terms, num_pairs)
    largest = np.argwhere(values == float(tests.largest[0]))[:1]
    tail = _tail_p_values(values[None], largest)[0] if terms.beyond_tail else 0.0
    return _Observed(
        values=values,
        present=present,
        num_pairs=num_pairs,
        status=FitStatus(tests.fits.statuses[0]),
        parameters=tuple(tests.fits.parameters[0].tolist()),
        cutoff=None if tests.cutoffs is None else float(tests.cutoffs[0]),
        num_fitted=tests.num_fitted,
        largest=float(tests.largest[0]),
        log_p=float(tests.log_p_values[0]),
        tail=float(tail),
        target=None if targets is None else int(targets[0]),
    )


def _judge(
    values: Matrix, present: NDArray[np.bool_], terms: Terms, num_pairs: int
) -> tuple[ExtremeTests, NDArray[np.int64] | None]:
    """The test on some matrices [B, K, K] of which a part takes part in the fit; and targets that are judged apart."""
    if terms.left_out is LeftOut.TARGET:
        return judge_targets_apart(values, terms.family)
    num_excluded = count_excluded(present) if terms.left_out is LeftOut.LARGEST else 0
    others = values[:, ~np.isnan(values[0]) & ~present].max(axis=1, initial=0.0)
    rows = values[:, present]
    return judge_extremes(rows, num_excluded, terms.family, others=others, num_pairs=num_pairs), None


def _tail_p_values(values: Matrix, where: NDArray[np.intp]) -> Vector:
    """P-value of one pair of each matrix by the tail of the logarithms of pairs of no attack with it, [B].

    0 where it is so small that the pair lies beyond the tail, of values of targets, and with few pairs to compare with.
    Pairs with the same target may be of the same attack, and so may be the reversed pair and those of an attack to all
    classes. Of a screened search all searched pairs are compared with: those that were chosen are the nearest of all.

    Args:
        values: Statistics [B, K, K], NaN at the same places in all of them.
        where: (source, target) of the pair of each, [B, 2].
    """
    log_p = np.full(len(values), -math.inf)
    if values.shape[1] == values.shape[2] and len(values):
        known = ~np.isnan(values[0])
        apart, num_pairs = known & ~_one_each(values[0]), int(known.sum())
        for index, (source, target) in enumerate(where):
            kept = apart.copy()
            kept[:, target] = kept[target, source] = False
            if kept.sum() > IN_TAIL:
                largest, others = np.log(values[index, source, target][None]), np.log(values[index][kept])[None]
                log_p[index] = log_tail_p_values(largest, others, num_pairs)[0]
    return np.where(log_p > math.log(LARGEST_TAIL), np.exp(log_p), 0.0)


def _one_each(values: Matrix) -> NDArray[np.bool_]:
    """The pairs of an attack from most classes to another one each, bool [K, K]; none where nothing looks like one.

    The largest in a row without a class in common, where so many of them are rare among pairs in any order.
    """
    together, run = np.zeros(values.shape, dtype=bool), leading_run(values)
    if run and run_p_value(len(run), ~np.isnan(values)) <= _BY_CHANCE:
        together[tuple(np.array(run).T)] = True
    return together


def _bootstrap(raw: _Observed, terms: Terms) -> Vector:
    """Log p-values of draws from the null of the reciprocals, [B]."""
    if terms.bootstrap_draws == 0:
        return np.empty(0)
    return bootstrap_log_p_values(
        terms.family,
        raw.parameters,
        present=raw.present,
        statistic=STATISTICS[terms.statistic],
        left_out=terms.left_out,
        num_draws=terms.bootstrap_draws,
        seed=terms.seed,
        threads=terms.threads,
        num_unseen=raw.num_pairs - int(np.count_nonzero(raw.present)),
    )


def _published(observed: _Observed) -> float | None:
    """The p-value of equation (4); at the boundary, where it has no tail to speak of, that by the spread."""
    if observed.status == FitStatus.FAILED:
        return None
    if observed.status == FitStatus.BOUNDARY:
        return max(_by_spread(observed), _SMALLEST_P)
    return max(math.exp(observed.log_p), _SMALLEST_P)


def _calibrated(observed: _Observed, raw: _Observed, log_p_draws: Vector, terms: Terms) -> float | None:
    """The calibrated p-value, if there is one."""
    if log_p_draws.size:
        return calibrated_p_value(observed.log_p, log_p_draws)
    if terms.bootstrap_draws == 0 or FitStatus.FAILED in (observed.status, raw.status):
        return None
    if observed.status == FitStatus.REACHED and not _has_spread(observed):
        return None
    return max(_by_spread(observed), _SMALLEST_P)


def _has_spread(observed: _Observed) -> bool:
    """Whether there are enough others to judge the largest by their spread."""
    return int(np.count_nonzero(observed.present)) >= FEWEST_BY_SPREAD


def _by_spread(observed: _Observed) -> float:
    """Chance of the largest statistic by the spread of the logarithms of the others, at most 1; 1 with too few of them.

    Of a screened search the others are those that were drawn. Grubbs (1950), Sample criteria for testing outlying
    observations; one-sided, by Bonferroni.
    """
    largest, drawn = math.log(observed.largest), np.sort(np.log(observed.values[observed.present]))
    others = drawn[:-1] if drawn[-1] == largest else drawn
    if not _has_spread(observed) or others[0] == others[-1]:
        return 1.0
    t = np.array([one_against_others(largest, others)])
    return min(1.0, observed.num_pairs * float(student_tail(t, others.size - 1)[0]))


def _null_fit(observed: _Observed, terms: Terms) -> NullFit:
    """The fitted null with its density sampled, so that reports need no kernels."""
    named = zip(terms.family.parameter_names, observed.parameters, strict=True)
    return NullFit(
        family=terms.null,
        parameters={name: value for name, value in named if math.isfinite(value)},
        cutoff=observed.cutoff,
        largest=observed.largest,
        sample_size=observed.num_fitted,
        status=observed.status.name.lower(),
        density=_density(observed, terms.family) if observed.status == FitStatus.REACHED else None,
    )


def _density(observed: _Observed, family: NullFamily) -> Curve:
    """Density of the null over the range of the statistics, half of the points below twice their median."""
    sample = observed.sample
    low, high = 0.5 * float(sample.min()), 1.05 * float(sample.max())
    middle = min(2.0 * float(np.median(sample)), high)
    half = _CURVE_POINTS // 2
    x = np.concatenate((np.linspace(low, middle, half, endpoint=False), np.linspace(middle, high, half)))
    return Curve(x=tuple(x.tolist()), y=tuple(np.exp(family.log_pdf(x, observed.parameters)).tolist()))


def _detectable_size(raw: _Observed, log_p_draws: Vector, terms: Terms) -> float | None:
    """The size at which four of five pairs would have been detected, had they been planted; None if that is unknown.

    Pairs are planted one by one, and the whole test is done again with each: the null, the cutoff and the effect of the
    source move with it. Of each pair the largest size counts at which it is found: a null that is fitted to all pairs
    bends towards one that is planted far out. One value per target says nothing of single pairs.
    """
    significance = terms.significance / terms.num_tests
    log_p = math.log(significance) if terms.published_p else _critical_log_p(log_p_draws, significance)
    if raw.status != FitStatus.REACHED or log_p == 0.0:
        return None
    where = np.argwhere(raw.present)
    where = where[np.unique(np.linspace(0, len(where) - 1, _MOST_PLANTED).round().astype(int))]
    grid = float(np.median(raw.sample)) * _MULTIPLES
    known = np.array([_is_found(raw, where, np.full(len(where), each), terms, log_p) for each in grid])
    first = np.where(known.any(axis=0), known.argmax(axis=0), 0)
    found, missed = grid[first], grid[np.maximum(first - 1, 0)]
    for _ in range(_HALVINGS):
        between = np.sqrt(found * missed)
        is_found = _is_found(raw, where, between, terms, log_p)
        found, missed = np.where(is_found, between, found), np.where(is_found, missed, between)
    needed = float(np.quantile(np.where(known.any(axis=0), found, math.inf), _FOUND, method="inverted_cdf"))
    return 1.0 / needed if math.isfinite(needed) else None


def _is_found(raw: _Observed, where: NDArray[np.intp], reciprocals: Vector, terms: Terms, log_p: float) -> Vector:
    """Whether each of some pairs, planted alone with its reciprocal, is the most extreme and significant, bool [n]."""
    planted = np.tile(raw.values, (len(where), 1, 1))
    index = (np.arange(len(where)), *where.T)
    planted[index] = reciprocals
    values = STATISTICS[terms.statistic](planted)
    tests, _ = _judge(values, raw.present & ~np.isnan(values[0]), terms, raw.num_pairs)
    is_found: Vector = (tests.log_p_values <= log_p) & (values[index] >= tests.largest)
    if terms.beyond_tail:
        is_found = is_found & (_tail_p_values(values, where) == 0.0)
    return is_found


def _critical_log_p(log_p_draws: Vector, significance: float) -> float:
    """The log p-value of the draw that an observation must undercut to be detected; 0 if that cannot be said."""
    allowed = math.floor(significance * (log_p_draws.size + 1) + 1e-9) - 1  # draws that may lie at or below it
    if not 0 <= allowed < log_p_draws.size:
        return 0.0
    return float(np.partition(log_p_draws, allowed)[allowed])


def _remarks(
    observed: _Observed, raw: _Observed, terms: Terms, screened: Screened | None, agrees: Assessment | None
) -> Iterator[str]:
    """What a reader should know about the fit and the pairs that a statistic cannot use."""
    if screened is not None:
        yield (
            f"{observed.sample.size} of {observed.num_pairs} pairs were searched; the null is that of "
            f"{np.count_nonzero(observed.present)} drawn at random, and the smallest searched is judged as if it were "
            "the smallest of all"
        )
    if observed.tail:
        yield (
            f"the largest is not beyond the tail of the pairs with other targets (p = {observed.tail:.2g}): classes "
            "that look alike come as near"
        )
    if agrees is not None:
        p_value = agrees.p_value if terms.published_p else agrees.calibrated_p_value
        yield (
            f"beside how near the classes are to each other on clean images {agrees.source} -> {agrees.target} lies "
            f"beyond that tail (p = {p_value:.2g})"
        )
    lost = raw.sample.size - observed.sample.size
    if lost and observed.values.shape == raw.values.shape:
        yield f"{lost} pairs lack the pair that the {terms.statistic} statistic compares them with and do not count"
    enough = _has_spread(observed)
    by_spread = "so the largest is judged by the spread of the logarithms of the others"
    if observed.status == FitStatus.BOUNDARY:
        yield (
            f"the likelihood of the {terms.null} null grows to the edge of the family, as it may with few classes or "
            f"where some pairs need much more than others, {by_spread if enough else _NOT_BY_SPREAD}"
        )
    elif observed.status == FitStatus.FAILED:
        yield (
            f"the {terms.null} null could not be fitted, it needs two different statistics below the excluded ones: "
            "test more classes"
        )
    elif raw.status == FitStatus.BOUNDARY and enough:
        yield f"the {terms.null} null of the reciprocals themselves grows to the edge of the family, {by_spread}"
    elif raw.status != FitStatus.REACHED:
        yield (
            f"the {terms.null} null of the reciprocals themselves was not reached ({raw.status.name.lower()}), so the "
            f"p-value of the {terms.statistic} statistic could not be calibrated: test more classes"
        )
