"""The test of XMK section 3.1.3 on many matrices of reciprocals at once, and its parametric bootstrap.

`judge_extremes` is the whole procedure for B matrices: leave out the largest values, fit the null to the others, and
judge the largest of all by equation (4). `judge_targets_apart` leaves out one target after the other instead. Equation
(4) plugs in fitted parameters, so it fires too often when classes are few; `bootstrap_log_p_values` repeats the same
procedure, statistic included, on draws from the fitted null.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from backscan.kernels.nulls import Fits, FitStatus, NullFamily, Parameters
from backscan.kernels.order import log_order_p_value

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Statistic = Callable[[Matrix], Matrix]

_VALUES_A_BLOCK = 400_000  # of drawn matrices: a few megabytes, and enough blocks to share among threads
_MOST_ROWS_A_BLOCK = 64


class LeftOut(StrEnum):
    """What the null is not fitted to."""

    NOTHING = "nothing"
    """Naive, XMK Table 5."""
    LARGEST = "largest"
    """The largest statistics, as many as may belong to an attack; the fit is conditional on lying below them."""
    TARGET = "target"
    """All pairs of the target class that is judged, one class after the other."""


@dataclass(frozen=True, slots=True)
class ExtremeTests:
    """Results of the test on B samples of n statistics."""

    fits: Fits
    """Null fitted to the smallest statistics of each sample."""
    cutoffs: Vector | None
    """Smallest excluded statistic of each sample, [B]; None if none is excluded."""
    num_fitted: int
    """Statistics of each sample that the null was fitted to."""
    largest: Vector
    """Largest statistic of each sample, [B]."""
    log_p_values: Vector
    """Logarithm of the order-statistic p-value, [B]; 0 where the fit ended at the boundary or failed."""


def count_excluded(present: NDArray[np.bool_]) -> int:
    """How many of the largest statistics may belong to an attack: all pairs of one target.

    Args:
        present: Which (source, target) pairs have a statistic, [K, K].

    Returns:
        Largest number of pairs that share a target: K - 1 when none is missing. The null is then fitted to the other
        (K - 1)^2, and to what remains of them when pairs are missing.
    """
    return int(present.sum(axis=0).max(initial=0))


def judge_extremes(
    rows: Matrix,
    num_excluded: int,
    family: NullFamily,
    limit: float | None = None,
    *,
    others: Vector | None = None,
    num_pairs: int | None = None,
) -> ExtremeTests:
    """Fit the null to all but the largest statistics and judge the largest. XMK section 3.1.3, eq. (4).

    Args:
        rows: Positive statistics, [B, n], n at least 1.
        num_excluded: How many of the largest are left out of the fit, at most n; 0 fits all of them (naive, XMK
            Table 5).
        family: Null family.
        limit: Of values at or below it no more is known than that (`censored`); None where all are known.
        others: Largest of the statistics that are judged with each row but take no part in the fit, [B].
        num_pairs: Exponent of equation (4), where a row is a sample of more pairs; None is n.

    Returns:
        One test for each row.
    """
    size = rows.shape[1]
    num_fitted = size - num_excluded
    if num_excluded == 0:
        largest, cutoffs, fits = rows.max(axis=1), None, family.fit(rows, None, limit)
    else:
        ordered = np.partition(rows, min(num_fitted, size - 1), axis=1)
        largest, cutoffs = ordered[:, num_fitted:].max(axis=1), ordered[:, num_fitted].copy()
        fits = family.fit(ordered[:, :num_fitted], cutoffs, limit)
    largest = largest if others is None else np.maximum(largest, others)
    log_p_values = np.zeros(len(rows))
    reached = fits.statuses == FitStatus.REACHED
    log_sf = family.log_sf(largest[reached], fits.parameters[reached])
    log_p_values[reached] = log_order_p_value(log_sf, num_pairs or size)
    return ExtremeTests(fits, cutoffs, num_fitted, largest, log_p_values)


def judge_targets_apart(values: Matrix, family: NullFamily) -> tuple[ExtremeTests, NDArray[np.int64]]:
    """Judge the largest statistic of each target by a null fitted to all other targets: leave one target out.

    For each target c the null G_c is fitted to the statistics of the others, p_c = 1 - G_c(largest of c)^(statistics
    of c), and the smallest p_c is judged as the smallest of as many. No statistic of an attacked target can spoil the
    null that judges it, and none has to be conditional. It follows the idea of the order-statistic test of Xiang,
    Miller & Kesidis (ICASSP 2020).

    Args:
        values: Positive statistics, NaN where a pair has none, in the same places of every matrix, [B, R, K].
        family: Null family.

    Returns:
        One test for each matrix, with the fit, the count and the largest of the target whose p_c is smallest; and that
        target, [B].
    """
    counts = ~np.isnan(values[0])
    targets = np.flatnonzero(counts.any(axis=0))
    tests = [_judge_target(values, counts, int(target), family) for target in targets]
    each = np.stack([test.log_p_values for test in tests])  # [T, B]
    first = each.argmin(axis=0)
    index = np.arange(len(values))
    fits = Fits(*(np.stack([getattr(test.fits, name) for test in tests])[first, index] for name in Fits.__slots__))
    largest = np.stack([test.largest for test in tests])[first, index]
    log_p_values = log_order_p_value(each[first, index], len(targets))
    return ExtremeTests(fits, None, tests[first[0]].num_fitted, largest, log_p_values), targets[first]


def _judge_target(values: Matrix, counts: NDArray[np.bool_], target: int, family: NullFamily) -> ExtremeTests:
    """The test of one target against a null of all others."""
    own, others = counts.copy(), counts.copy()
    own[:, np.arange(counts.shape[1]) != target] = False
    others[:, target] = False
    fits = family.fit(values[:, others], None)
    largest, log_p_values = values[:, own].max(axis=1), np.zeros(len(values))
    reached = fits.statuses == FitStatus.REACHED
    log_sf = family.log_sf(largest[reached], fits.parameters[reached])
    log_p_values[reached] = log_order_p_value(log_sf, int(own.sum()))
    return ExtremeTests(fits, None, int(others.sum()), largest, log_p_values)


def bootstrap_log_p_values(
    family: NullFamily,
    parameters: Parameters,
    *,
    present: NDArray[np.bool_],
    statistic: Statistic,
    left_out: LeftOut,
    num_draws: int,
    seed: int,
    threads: int = 1,
    limit: float | None = None,
    num_unseen: int = 0,
) -> Vector:
    """Order-statistic p-values of matrices drawn from a fitted null, judged as the observed one was.

    Args:
        family: Null family of the reciprocals.
        parameters: Its fitted parameters.
        present: Which pairs have a reciprocal, [K, K].
        statistic: What is compared across pairs: reciprocals [B, K, K] (NaN where a pair is missing) to [B, K, K].
        left_out: What the null is not fitted to.
        num_draws: Draws B, at least 1.
        seed: Seed of the draws.
        threads: Threads that share the draws; they do not change the result.
        limit: Draws at or below it are known no better than that, as the observed values were; None for all known,
            as it is where one target is left out.
        num_unseen: Further pairs that are judged but take no part in the fit, none of them missing; `statistic` must
            leave reciprocals as they are.

    Returns:
        Logarithms of the p-values, in the order of the draws, [B].
    """
    rows_a_block = max(1, min(_MOST_ROWS_A_BLOCK, _VALUES_A_BLOCK // present.size))
    starts = range(0, num_draws, rows_a_block)

    def judge_block(index: int) -> Vector:
        rows = min(rows_a_block, num_draws - starts[index])
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
        draws = np.full((rows, *present.shape), np.nan)
        draws[:, present] = family.sample(rng, parameters, (rows, int(present.sum())))
        values = statistic(draws if limit is None else np.maximum(draws, limit))
        if left_out is LeftOut.TARGET:
            return judge_targets_apart(values, family)[0].log_p_values
        counts = ~np.isnan(values[0])
        others = family.sample_largest(rng, parameters, num_unseen, rows) if num_unseen else None
        num_pairs = int(counts.sum()) + num_unseen
        num_excluded = count_excluded(counts) if left_out is LeftOut.LARGEST else 0
        tests = judge_extremes(values[:, counts], num_excluded, family, limit, others=others, num_pairs=num_pairs)
        return tests.log_p_values

    if threads == 1:
        blocks = [judge_block(index) for index in range(len(starts))]
    else:
        with ThreadPoolExecutor(threads) as pool:
            blocks = list(pool.map(judge_block, range(len(starts))))
    return np.concatenate(blocks)


def calibrated_p_value(log_p: float, log_p_draws: Vector) -> float:
    """Share of draws at least as extreme as the observation, the observation counted: (1 + #{p_b <= p}) / (B + 1).

    Args:
        log_p: Logarithm of the observed order-statistic p-value.
        log_p_draws: The same of each draw, [B].
    """
    return (1 + int(np.count_nonzero(log_p_draws <= log_p))) / (log_p_draws.size + 1)
