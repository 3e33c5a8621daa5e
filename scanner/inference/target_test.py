"""Whether one target class, or a few together, stand out from the others by a value that each target has.

A witness gives one number a target: a mean of log commonality, the logit of a window's rate. On an unattacked model
they are taken for a normal sample, so each is judged by the spread of the others (Grubbs' one-sided test). Several
attacked targets hide each other there, so the j largest are also judged together, and the smallest of those p-values
is calibrated for having been chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from backscan.kernels import largest_together, null_of_largest

Vector = NDArray[np.float64]

FEWEST_TARGETS = 3
"""Targets with a value below which nothing can be said."""
NUM_DRAWS = 49_999
"""Simulated samples: a p of .05 is known to .001, and none is below 2e-5."""


@dataclass(frozen=True, slots=True)
class TargetTest:
    """How far each target stands out, and whether the largest do."""

    values: Vector
    """What was given, [K]; NaN for a target without a value."""
    t: Vector
    """Each value against the others: Student's t with K - 2 degrees where nothing stands out, [K]; NaN likewise."""
    tails: Vector
    """Chance that one target named in advance reaches its t, one-sided, [K]: for normal scores and for combining."""
    p_values: Vector
    """Chance that the largest of all targets reaches this t, simulated, [K]: Grubbs' test."""
    order: tuple[int, ...]
    """Targets with a value, the largest first."""
    together: Vector
    """T_j of the j largest together, [J], J = min(3, K // 3); empty with fewer than three targets."""
    together_p_values: Vector
    """Simulated p-value of each T_j by itself, [J]."""
    num_together: int
    """The j of the smallest of them, the least j among equals; 0 with fewer than three targets."""
    p_value: float | None
    """Smallest p-value of all T_j, calibrated jointly: the test. None with fewer than three targets."""

    @property
    def named(self) -> tuple[int, ...]:
        """The targets that stand out together most, the largest first."""
        return self.order[: self.num_together]

    @property
    def largest_p_value(self) -> float | None:
        """Grubbs' p-value of the largest target alone."""
        return float(self.p_values[self.order[0]]) if self.num_together else None


def target_test(values: Sequence[float] | Vector, *, num_draws: int = NUM_DRAWS, seed: int = 0) -> TargetTest:
    """Judge the targets by one value each; large values are suspicious.

    Args:
        values: One number a target on a scale on which unattacked targets are about normal, [K]; NaN (or None in a
            list) for a target without one, which is left out.
        num_draws: Simulated samples; the p-values are at least 1 / (draws + 1).
        seed: Seed of the simulation.

    Raises:
        ValueError: not a vector, or an infinite value.
    """
    given = np.array(values, dtype=np.float64)
    if given.ndim != 1 or np.isinf(given).any():
        raise ValueError(f"expected one finite value a target, found shape {given.shape} with {given.tolist()[:3]}")
    present = np.flatnonzero(~np.isnan(given))
    # Stable, and downwards: of equal values the class with the smaller number comes first.
    order = tuple(present[np.argsort(-given[present], kind="stable")].tolist())
    if present.size < FEWEST_TARGETS:
        nothing = np.full(given.shape, np.nan)
        return TargetTest(given, nothing, nothing, nothing, order, np.empty(0), np.empty(0), 0, None)
    null = _null(present.size, num_draws, seed)
    t, tails, p_values = (np.full(given.shape, np.nan) for _ in range(3))
    t[present] = against_others(given[present])
    tails[present] = student_tail(t[present], present.size - 2)
    p_values[present] = null.p_value(t[present], 1)
    together = largest_together(given[present][None])[0]
    by_itself = np.array([null.p_value(value, j) for j, value in enumerate(together, start=1)])
    num_together = int(by_itself.argmin()) + 1
    return TargetTest(
        values=given,
        t=t,
        tails=tails,
        p_values=p_values,
        order=order,
        together=together,
        together_p_values=by_itself,
        num_together=num_together,
        p_value=null.joint_p_value(float(by_itself.min())),
    )


def critical_value(num_targets: int, significance: float, *, num_draws: int = NUM_DRAWS, seed: int = 0) -> float:
    """The t that the largest of some targets exceeds with a chance of `significance` where nothing stands out."""
    return float(np.quantile(_null(num_targets, num_draws, seed).of_largest[0], 1.0 - significance))


@dataclass(frozen=True, slots=True)
class SimulatedNull:
    """What normal values give, sorted, so that a p-value is one look. T_j is a statistic of the j largest together."""

    of_largest: tuple[Vector, ...]
    """T_j, [B] for each j."""
    of_smallest_p: Vector
    """Smallest of the p-values of all T_j of one draw, each among the other draws, [B]."""

    @classmethod
    def of(cls, draws: NDArray[np.float64]) -> SimulatedNull:
        """The null of draws of all T_j, [B, J]; a row keeps together what one sample gave."""
        columns = tuple(np.sort(draws, axis=0).T.copy())
        # A draw is among its own null, as an observation is not: it is counted by that, not by the 1 beside it.
        each = [_share_as_large(column, draws[:, j]) - 1 / (len(draws) + 1) for j, column in enumerate(columns)]
        return cls(columns, np.sort(np.min(each, axis=0)))

    def p_value(self, observed: Vector, j: int) -> Vector:
        """P-values of some T_j: (1 + draws that are as large) / (draws + 1)."""
        return _share_as_large(self.of_largest[j - 1], observed)

    def joint_p_value(self, smallest: float) -> float:
        """P-value of the smallest of the p-values of all T_j."""
        as_small = int(np.searchsorted(self.of_smallest_p, smallest + 1e-12, side="right"))
        return (1 + as_small) / (self.of_smallest_p.size + 1)


@lru_cache(maxsize=8)
def _null(num_targets: int, num_draws: int, seed: int) -> SimulatedNull:
    """The null of some number of targets, kept for the next caller."""
    return SimulatedNull.of(null_of_largest(num_targets, num_draws, seed))


def _share_as_large(ascending: Vector, observed: Vector) -> Vector:
    as_large = ascending.size - np.searchsorted(ascending, observed, side="left")
    share: Vector = (1 + as_large) / (ascending.size + 1)
    return share


def against_others(rows: Vector) -> Vector:
    """(value - mean of the others) / (sd of the others * sqrt(1 + 1/(K-1))): Student's t with K - 2 degrees, [..., K].

    A spread of 0 gives 0 where the value agrees with the others, else infinity.

    Args:
        rows: Values [K], or many samples [..., K] of which none lies so far out that sums lose its digits.
    """
    return _one_by_one(rows) if rows.ndim == 1 else _by_sums(rows)


def one_against_others(value: float, others: Vector) -> float:
    """The same of one value: Student's t with one degree less than there are others."""
    excess = float(value - others.mean())
    scale = float(others.std(ddof=1)) * math.sqrt(1.0 + 1.0 / others.size)
    return excess / scale if scale > 0.0 else math.copysign(math.inf, excess) if excess else 0.0


def _one_by_one(values: Vector) -> Vector:
    # Each mean and spread anew: a shortcut loses its digits beside a value far out.
    return np.array([one_against_others(value, np.delete(values, index)) for index, value in enumerate(values)])


def _by_sums(rows: Vector) -> Vector:
    size = rows.shape[-1]
    centred = rows - rows.mean(axis=-1, keepdims=True)
    excess = centred * size / (size - 1)
    squares = (centred**2).sum(axis=-1, keepdims=True) - centred * excess
    scale = np.sqrt(np.maximum(squares, 0.0) / (size - 2) * size / (size - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        t: Vector = np.where(excess == 0.0, 0.0, excess / scale)
    return t


def student_tail(t: Vector, freedom: int) -> Vector:
    """Upper tail of Student's t."""
    from scipy import stats

    tail: Vector = stats.t.sf(t, freedom)
    return tail
