"""How far a few witnesses, alone or together, say that one target, or some, stand out from the others.

Each witness has a value a target on a scale of its own. Its excess of some targets over the rest is a t (`outliers`),
which becomes a normal score. Scores of several witnesses are added (Stouffer), over the spread that their sum has where
the witnesses of unattacked models go together; of all ways to take one or several witnesses the most extreme counts, so
that one witness that sees an attack is not drowned by others that cannot, and several that half see it add up.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from backscan.kernels.outliers import MOST_TOGETHER

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Cube = NDArray[np.float64]

_VALUES_A_BLOCK = 1_000_000
_SMALLEST_TAIL = 1e-300


def agreement_scores(values: Cube, correlation: Matrix) -> tuple[Matrix, NDArray[np.int64]]:
    """By how much the j targets that stand out most exceed the others, for j = 1 .. min(3, K // 3).

    Args:
        values: Values of W witnesses in any units, finite, [B, W, K], K at least 3.
        correlation: Of the witnesses across the targets of an unattacked model, [W, W], positive definite.

    Returns:
        Score of the first j targets in column j - 1, [B, J]: the largest over sets A of witnesses of the sum over A of
        the normal scores of t_j = (mean of the j - mean of the rest) / (standard deviation of the rest *
        sqrt(1/j + 1/(K-j))), over the standard deviation of that sum. And the targets, those that stand out most by
        their standardised values first, [B, K].

    Raises:
        ValueError: fewer than three targets.
    """
    size = values.shape[2]
    if size < 3:
        raise ValueError(f"expected at least 3 values to compare, found {size}")
    weights = _weights(correlation)
    order = np.argsort(-_most(_standardised(values), weights), axis=1, kind="stable")
    ordered = np.take_along_axis(values, order[:, None, :], axis=2)
    scores = [
        _most(normal_scores(_excess(ordered, j), size - j - 1)[:, :, None], weights)[:, 0]
        for j in range(1, min(MOST_TOGETHER, size // 3) + 1)
    ]
    return np.stack(scores, axis=1), order


def null_of_agreement(size: int, correlation: Matrix, num_draws: int, seed: int) -> Matrix:
    """`agreement_scores` of normal values with that correlation: what no target that stands out gives, [B, J].

    Args:
        size: Targets K, at least 3.
        correlation: Of the witnesses, [W, W], positive definite.
        num_draws: Samples B.
        seed: Seed of the draws.
    """
    root = np.linalg.cholesky(correlation)
    num_witnesses = len(correlation)
    rng = np.random.default_rng(np.random.SeedSequence((seed, num_witnesses, size)))
    rows_a_block, blocks = max(1, _VALUES_A_BLOCK // (num_witnesses * size)), []
    for start in range(0, num_draws, rows_a_block):
        own = rng.standard_normal((min(rows_a_block, num_draws - start), num_witnesses, size))
        blocks.append(agreement_scores(root @ own, correlation)[0])
    return np.concatenate(blocks)


def normal_scores(t: NDArray[np.float64], freedom: int) -> NDArray[np.float64]:
    """The normal values that are exceeded as rarely as some values of Student's t, in their shape."""
    from scipy.special import ndtri, stdtr

    scores: NDArray[np.float64] = np.sign(t) * -ndtri(np.maximum(stdtr(freedom, -np.abs(t)), _SMALLEST_TAIL))
    return scores


def largest_sums(scores: Matrix, correlation: Matrix) -> Vector:
    """Of each target the largest sum of its normal scores over a set of witnesses, over the deviation of that sum.

    Args:
        scores: Normal scores, [W, K].
        correlation: Of the witnesses, [W, W].
    """
    sums: Vector = _most(scores[None], _weights(correlation))[0]
    return sums


def _weights(correlation: Matrix) -> Matrix:
    """Weight of each witness in each set of witnesses, [2^W - 1, W]: the sum of a set has variance 1."""
    num_witnesses = len(correlation)
    sets = (np.arange(1, 2**num_witnesses)[:, None] >> np.arange(num_witnesses)) & 1
    variances = np.einsum("aw,wv,av->a", sets, correlation, sets)
    weights: Matrix = sets / np.sqrt(variances)[:, None]
    return weights


def _most(scores: Cube, weights: Matrix) -> Matrix:
    """The largest weighted sum over all sets of witnesses: scores [B, W, K] -> [B, K]."""
    most = np.full((scores.shape[0], scores.shape[2]), -math.inf)
    for weight in weights:  # one set after the other: all together would take as often the memory
        np.maximum(most, np.tensordot(scores, weight, axes=(1, 0)), out=most)
    return most


def _standardised(values: Cube) -> Cube:
    """Values of each witness less their mean, over their standard deviation; 0 where all agree."""
    centred = values - values.mean(axis=2, keepdims=True)
    spread = values.std(axis=2, ddof=1, keepdims=True)
    standardised: Cube = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0.0)
    return standardised


def _excess(ordered: Cube, j: int) -> Matrix:
    """T of the first j targets against the rest, [B, W]; infinite where only those differ, 0 where all agree."""
    inside, rest = ordered[..., :j], ordered[..., j:]
    excess = inside.mean(axis=2) - rest.mean(axis=2)
    scale = rest.std(axis=2, ddof=1) * math.sqrt(1.0 / j + 1.0 / rest.shape[2])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(excess == 0.0, 0.0, excess / scale)
