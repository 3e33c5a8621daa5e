"""Commonality: how much of what single images need the common pattern needs, by pairs and by targets.

c = (Q + d0) / (d + d0): the quantile of the individual sizes over the size of the common pattern on the same images,
both with the offset of equation (7) where confusion is corrected for, as confused images are worth as much to either.
Moving all images takes more than moving one, so c is mostly below 1; a planted shortcut serves all images alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backscan.kernels import quantile_rank
from backscan.scanner.inference.statistics import STATISTICS
from backscan.scanner.inference.target_test import TargetTest, target_test
from backscan.scanner.results import TargetFigures

if TYPE_CHECKING:
    from backscan.scanner.results import PairResult

Matrix = NDArray[np.float64]

NAME = "commonality"
OF_TARGETS = "commonality-target"
"""What the conclusion about targets is called."""
_RESAMPLES = 200
# Keeps the resampling apart from every other use of the seed.
_PURPOSE = 17


def commonality_matrix(pairs: Sequence[PairResult], num_classes: int) -> Matrix:
    """C of every pair, [K, K]; NaN where a pair does not count, or its source has too few images.

    Args:
        pairs: Results of one detector, with reciprocals.
        num_classes: Classes K.
    """
    matrix = np.full((num_classes, num_classes), np.nan)
    for pair in pairs:
        individual = pair.individual_size
        if pair.reciprocal is not None and individual is not None and individual.size is not None:
            matrix[pair.source, pair.target] = _quotient(pair, np.array(individual.size))
    return matrix


def judge_targets(pairs: Sequence[PairResult], matrix: Matrix, *, goal_rate: float, seed: int) -> Targets:
    """The test of targets on mean log c, sources adjusted, with what resampling the images makes of each t.

    Args:
        pairs: Results of one detector, with reciprocals.
        matrix: Their c, [K, K].
        goal_rate: Share of the images that the quantile is of.
        seed: Seed of the simulations.
    """
    test = target_test(_target_means(matrix), seed=seed)
    return Targets(test, _errors(pairs, matrix, goal_rate=goal_rate, seed=seed))


class Targets:
    """The test of targets with the errors of its t."""

    def __init__(self, test: TargetTest, errors: NDArray[np.float64]) -> None:
        self.test = test
        self.errors = errors

    @property
    def figures(self) -> TargetFigures:
        """What reports keep of it."""
        test = self.test
        return TargetFigures(
            values=_optional(test.values),
            errors=_optional(self.errors),
            t=_optional(test.t),
            tails=_optional(test.tails),
            p_values=_optional(test.p_values),
            together=tuple(each for each in test.together.tolist() if np.isfinite(each)),
            together_p_values=tuple(test.together_p_values.tolist()),
            named=test.named,
        )


def _quotient(pair: PairResult, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """C of one pair for one or more quantiles of its individual sizes."""
    individual, offset = pair.individual_size, pair.offset or 0.0
    common = (individual and individual.common_size) or pair.needed
    assert common is not None  # noqa: S101 - a pair with a reciprocal has a size
    # No images need nothing: then the pair would be confused already, and would not count.
    return np.maximum(sizes + offset, 1e-12) / (common + offset)


def _target_means(matrices: Matrix) -> NDArray[np.float64]:
    """Mean log c of every target, sources adjusted, [..., K, K] -> [..., K]; NaN for a target without any."""
    logs = np.log(STATISTICS[NAME](matrices))
    present = ~np.isnan(logs)
    counts = present.sum(axis=-2)
    total = np.where(present, logs, 0.0).sum(axis=-2)
    means: NDArray[np.float64] = np.divide(total, counts, out=np.full(total.shape, np.nan), where=counts > 0)
    return means


def _errors(pairs: Sequence[PairResult], matrix: Matrix, *, goal_rate: float, seed: int) -> NDArray[np.float64]:
    """Standard error of each target's t: the images of a source drawn anew, the same for all of its targets, [K]."""
    rng = np.random.default_rng((seed, _PURPOSE))
    draws = np.full((_RESAMPLES, *matrix.shape), np.nan)
    chosen: dict[tuple[int, int], NDArray[np.int64]] = {}
    for pair in pairs:
        if np.isnan(matrix[pair.source, pair.target]) or pair.individual_size is None:
            continue
        sizes = np.array(pair.individual_size.images)
        if not sizes.size:  # a report that kept the quantiles alone
            return np.full(len(matrix), np.nan)
        key = (pair.source, sizes.size)
        if key not in chosen:
            chosen[key] = rng.integers(sizes.size, size=(_RESAMPLES, sizes.size))
        ordered = np.sort(sizes[chosen[key]], axis=1)
        quantiles = ordered[:, quantile_rank(sizes.size, goal_rate) - 1]
        draws[:, pair.source, pair.target] = _quotient(pair, quantiles)
    means = _target_means(draws)
    if np.count_nonzero(~np.isnan(means[0])) < 3:
        return np.full(len(matrix), np.nan)
    errors: NDArray[np.float64] = np.std([target_test(row, seed=seed).t for row in means], axis=0, ddof=1)
    return errors


def _optional(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(value if np.isfinite(value) else None for value in values.tolist())
