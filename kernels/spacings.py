"""Whether the largest of many values lie too far beyond those next to them, whatever the bulk of the values does.

With an exponential tail the normalised spacings i (x_(i) - x_(i+1)) of the largest values are independent and alike
(Renyi 1953), so the first of them over the mean of the others has an F distribution. Real values have heavier tails, by
which some targets lie far out without an attack: so the F are compared with those of samples of Student's t with five
degrees. A tail that falls off faster, as the exponential or the normal one, makes p too large and never too small.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

FEWEST_VALUES = 10
"""Values below which nothing is said of their tail."""
MOST_OUTLYING = 3
"""Largest values that are judged together."""
_DEGREES = 5
"""Of the tail that they are compared with: a fourth moment, and no higher one than the fifth."""
_NUMBERS_AT_ONCE = 1 << 22
_SHARE, _LEAST = 10, 10  # the tenth of the values, but ten of them or half
IN_TAIL = 10
"""Largest of the others by which their tail is told."""


def spacings_in_tail(size: int) -> int:
    """How many spacings are looked at of so many values."""
    return min(size - 1, max(size // _SHARE, min(_LEAST, size // 2)))


def spacings_test(values: Vector, num_draws: int, seed: int) -> tuple[float, int]:
    """How likely the largest values lie as far out as they do, and how many of them do so most.

    Args:
        values: Finite, in any order, [K], K at least 10.
        num_draws: Simulated samples of as many values with a heavy tail.
        seed: Seed of the draws.

    Returns:
        The p-value of the least of the p-values of the one, two and three largest together, at least 1 / (draws + 1);
        and the number of largest values that has it.

    Raises:
        ValueError: too few values.
    """
    if len(values) < FEWEST_VALUES:
        raise ValueError(f"expected at least {FEWEST_VALUES} values to compare, found {len(values)}")
    number = spacings_in_tail(len(values))
    by_number = _log_p(_spacings(values[None], number))[0]
    as_small = int(np.searchsorted(_null(len(values), num_draws, seed), by_number.min() + 1e-12, side="right"))
    return (1 + as_small) / (num_draws + 1), int(by_number.argmin()) + 1


def log_tail_p_values(largest: Vector, others: Matrix, num_values: int) -> Vector:
    """How likely the largest of many values lies as far beyond the others as it does, if their tail is exponential.

    The tail is the k = 10 largest of the others: of more, those that are ordinary would make it look lighter than it
    is where few values make it. By how much an exponential value exceeds the one next to the tail, over the mean of
    what the k others exceed it by, has an F distribution with 2 and 2 k degrees, whose upper tail at x is
    (1 + x / k)^-k; and of so many values as many more are expected in the tail.

    Args:
        largest: The value that is judged, of some samples, [B].
        others: The values that it is compared with, at least 11, [B, n].
        num_values: Values of which it is the largest, n or more.

    Returns:
        Natural logarithms of the p-values, at most 0, [B].

    Raises:
        ValueError: too few others.
    """
    size = others.shape[1]
    if size < IN_TAIL + 1:
        raise ValueError(f"expected at least {IN_TAIL + 1} values to compare with, found {size}")
    tail = np.partition(others, size - IN_TAIL - 1, axis=1)[:, size - IN_TAIL - 1 :]
    beside = tail.min(axis=1)
    excess, mean = largest - beside, (tail - beside[:, None]).sum(axis=1) / IN_TAIL
    ratio = np.divide(excess, mean, out=np.where(excess > 0.0, np.inf, 0.0), where=mean > 0.0)
    log_p = math.log(IN_TAIL * num_values / size) - IN_TAIL * np.log1p(np.maximum(ratio, 0.0) / IN_TAIL)
    result: Vector = np.minimum(log_p, 0.0)
    return result


@lru_cache(maxsize=8)
def _null(size: int, num_draws: int, seed: int) -> Vector:
    """Least log p-values of samples with a heavy tail, ascending [B]."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, size)))
    at_once = max(1, _NUMBERS_AT_ONCE // size)
    found = [
        _log_p(
            _spacings(rng.standard_t(_DEGREES, (min(at_once, num_draws - start), size)), spacings_in_tail(size))
        ).min(axis=1)
        for start in range(0, num_draws, at_once)
    ]
    return np.sort(np.concatenate(found))


def _spacings(rows: Matrix, number: int) -> Matrix:
    """The normalised spacings of the largest values of each row, [B, K] -> [B, number]."""
    largest = np.sort(np.partition(rows, rows.shape[1] - number - 1, axis=1)[:, -number - 1 :], axis=1)[:, ::-1]
    return np.arange(1, number + 1) * (largest[:, :-1] - largest[:, 1:])


def _log_p(spacings: Matrix) -> Matrix:
    """Logarithms of the p-values of the first j normalised spacings against the others, [B, 3]; 0 where all agree."""
    from scipy.special import fdtrc

    found = []
    for j in range(1, min(MOST_OUTLYING, spacings.shape[1] - 1) + 1):
        first, rest = spacings[:, :j].mean(axis=1), spacings[:, j:].mean(axis=1)
        ratio = np.divide(first, rest, out=np.where(first > 0.0, np.inf, 0.0), where=rest > 0.0)
        p = fdtrc(2 * j, 2 * (spacings.shape[1] - j), np.minimum(ratio, 1e12))
        found.append(np.log(np.maximum(p, 1e-300)))
    return np.stack(found, axis=1)
