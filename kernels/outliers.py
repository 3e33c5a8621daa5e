"""How far the largest of a few values stand out from the others: Grubbs' statistic, and of several values together.

The nulls are simulated on normal values and depend on their number alone.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from backscan.kernels._jit import COUNT, MATRIX, WRITEABLE_MATRIX, jit

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

MOST_TOGETHER = 3
"""Largest values that are looked at together."""
_VALUES_A_BLOCK = 1_000_000


def largest_together(rows: Matrix) -> Matrix:
    """By how much the j largest values of each row exceed the others, for j = 1 .. min(3, K // 3).

    T_j = (mean of the j largest - mean of the rest) / (standard deviation of the rest * sqrt(1/j + 1/(K-j))): Student's
    two-sample t with the spread of the rest alone. For j = 1 it is the one-sided statistic of Grubbs (1950), there as
    a t with K - 2 degrees.

    Args:
        rows: Values in any order, finite, [B, K], K at least 3.

    Returns:
        T_j in column j - 1, [B, J]; infinite where the rest agree and the largest exceed them, 0 where all agree.
    """
    size = rows.shape[1]
    if size < 3:
        raise ValueError(f"expected at least 3 values to compare, found {size}")
    ordered = np.ascontiguousarray(np.sort(rows, axis=1))
    return _together(ordered, min(MOST_TOGETHER, size // 3))


def null_of_largest(size: int, num_draws: int, seed: int) -> Matrix:
    """`largest_together` of samples of normal values: what no value that stands out gives.

    Args:
        size: Values K of a sample, at least 3.
        num_draws: Samples B.
        seed: Seed of the draws.

    Returns:
        A column is the null of one T_j; a row keeps together what one sample gave, [B, J].
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, size)))
    rows_a_block = max(1, _VALUES_A_BLOCK // size)
    blocks = [
        largest_together(rng.standard_normal((min(rows_a_block, num_draws - start), size)))
        for start in range(0, num_draws, rows_a_block)
    ]
    return np.concatenate(blocks)


@jit(WRITEABLE_MATRIX(MATRIX, COUNT))
def _together(ordered: Matrix, most: int) -> Matrix:
    """`largest_together` of rows that ascend."""
    num_rows, size = ordered.shape
    found = np.zeros((num_rows, most))
    for row in range(num_rows):
        for j in range(1, most + 1):
            rest = size - j
            centre = 0.0
            for index in range(rest):
                centre += ordered[row, index]
            centre /= rest
            squares = 0.0
            for index in range(rest):
                squares += (ordered[row, index] - centre) ** 2
            excess = -centre
            for index in range(rest, size):
                excess += ordered[row, index] / j
            scale = math.sqrt(squares / (rest - 1) * (1.0 / j + 1.0 / rest))
            if excess > 0.0:
                found[row, j - 1] = excess / scale if scale > 0.0 else math.inf
    return found
