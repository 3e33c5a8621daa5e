"""What is compared across pairs: functions from the reciprocals of a scan to the statistics of the test.

A statistic takes reciprocals 1 / d(v_st) with sources as rows and targets as columns, [..., K, K], NaN where a pair
does not count, and gives an array of the same shape, or one value per target, [..., 1, K]. It must not depend on the
scale of the reciprocals beyond a common factor, and where it needs a pair that is missing it gives NaN. The bootstrap
applies the same function to its draws, so leading axes are other matrices. A new statistic is a function and one line
of `STATISTICS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from backscan.scanner.choices.registered import Extensible, callable_entry

Reciprocals = NDArray[np.float64]

# Sweeps over rows and columns; with only the diagonal missing each leaves 1 / (K - 1)^2 of what the last one left.
_SWEEPS = 6
# Mean number of pairs of a source without which its effect cannot be told from that of one pair.
_FEWEST_OF_A_SOURCE = 3


def plain(reciprocals: Reciprocals) -> Reciprocals:
    """The reciprocal itself, r_st. XMK section 3.1.3."""
    return reciprocals


def source_normalised(reciprocals: Reciprocals) -> Reciprocals:
    """r_st over the median of its source's row: some sources are near everything."""
    ordered = np.sort(reciprocals, axis=-1)  # NaN goes last
    counts = np.count_nonzero(~np.isnan(reciprocals), axis=-1, keepdims=True)
    low, high = np.maximum(counts - 1, 0) // 2, counts // 2
    medians = 0.5 * (np.take_along_axis(ordered, low, axis=-1) + np.take_along_axis(ordered, high, axis=-1))
    return reciprocals / medians


def source_adjusted(reciprocals: Reciprocals) -> Reciprocals:
    """r_st over the effect of its source, as far as the sources differ by more than chance.

    The effect is the geometric mean of the source's row over that of all rows, its logarithm shrunk by the share of
    the variance of row means that the variance within rows does not explain: the positive-part estimator of James and
    Stein (1961). One planted pair adds to both variances alike and so leaves the share where it was; without effects
    of sources, or with too few classes to see any, this is the plain statistic. It is that too where the sources have
    fewer than three pairs each, as of few wanted targets: there a planted pair would pass for the effect of its source.
    """
    logs = np.log(reciprocals)
    means = mean_present(logs, axis=-1)
    effects = means - mean_present(means, axis=-2)
    counts = np.count_nonzero(~np.isnan(logs), axis=-1, keepdims=True)
    freedom = np.maximum(counts - 1, 0).sum(axis=-2, keepdims=True)
    within = np.nansum((logs - means) ** 2, axis=(-1, -2), keepdims=True) / np.maximum(freedom, 1)
    num_rows = np.count_nonzero(counts, axis=-2, keepdims=True)
    observed = np.nansum(effects**2, axis=-2, keepdims=True) / np.maximum(num_rows - 1, 1)
    by_chance = within * mean_present(
        np.divide(1.0, counts, where=counts > 0, out=np.full(counts.shape, np.nan)), axis=-2
    )
    enough = counts.sum(axis=-2, keepdims=True) >= _FEWEST_OF_A_SOURCE * np.maximum(num_rows, 1)
    excess = np.where(enough, np.maximum(observed - by_chance, 0.0), 0.0)
    share = np.divide(excess, observed, where=observed > 0.0, out=np.zeros(excess.shape))
    adjusted: Reciprocals = np.exp(logs - share * effects)
    return adjusted


def reverse_controlled(reciprocals: Reciprocals) -> Reciprocals:
    """r_st over the root of r_ts: natural similarity of two classes goes both ways, a backdoor does not.

    It loses power when an attack goes both ways or all to all, and a pair whose reverse is missing leaves it, so it
    never runs alone by default.
    """
    return reciprocals / np.sqrt(np.swapaxes(reciprocals, -1, -2))


def residual(reciprocals: Reciprocals) -> Reciprocals:
    """r_st over what its source and its target explain: some sources are near everything, some targets are.

    The logarithm is fitted by least squares as a source effect plus a target effect, over the pairs that count.
    """
    logs = np.log(reciprocals)
    for _ in range(_SWEEPS):
        logs = logs - mean_present(logs, axis=-1)
        logs = logs - mean_present(logs, axis=-2)
    return np.exp(logs)


def residual_reverse_controlled(reciprocals: Reciprocals) -> Reciprocals:
    """The residual of r_st over the root of that of r_ts: free of source and target effects, similarity halved."""
    return reverse_controlled(residual(reciprocals))


def target_wise(reciprocals: Reciprocals) -> Reciprocals:
    """Geometric mean of r_st over the sources of each target, [..., 1, K]: attacks from all classes to one."""
    return np.exp(mean_present(np.log(reciprocals), axis=-2))


def target_contrast(reciprocals: Reciprocals) -> Reciprocals:
    """Geometric mean of r_st over that of r_ts, over the other classes s of each target t, [..., 1, K].

    How near a class is as a target against how near the others are from it: what makes a class like many others works
    both ways, an attack towards it does not.
    """
    logs = np.log(reciprocals)
    contrast: Reciprocals = np.exp(mean_present(logs, axis=-2) - np.swapaxes(mean_present(logs, axis=-1), -1, -2))
    return contrast


def margin_contrast(weighed: Reciprocals) -> Reciprocals:
    """`target_contrast` less half of the same contrast of clean margins, [..., 1, K].

    A class that a model answers more often than others has images that lead far and is led over by little, so small
    patterns lead to it and none as small away from it though nobody planted any. It takes r_st times the root of the
    clean margin in the place of the reciprocal, as `margins.weighed_by_margins` makes it.
    """
    return target_contrast(weighed)


def commonality(quotients: Reciprocals) -> Reciprocals:
    """c_st over the effect of its source: what single images need against what the common pattern needs.

    It takes the commonality in the place of the reciprocal, as `commonality.commonality_matrix` makes it.
    """
    return source_adjusted(quotients)


def mean_present(values: Reciprocals, axis: int) -> Reciprocals:
    """Mean of what is there along an axis, which stays; NaN where nothing is."""
    present = ~np.isnan(values)
    counts = present.sum(axis=axis, keepdims=True)
    total = np.where(present, values, 0.0).sum(axis=axis, keepdims=True)
    means: Reciprocals = np.divide(total, counts, out=np.full(total.shape, np.nan), where=counts > 0)
    return means


FEWEST_BY_SPREAD = 20
"""Values without which the largest is not judged by the spread of the others: as many as five classes have pairs."""

OF_SOME_PAIRS = "plain"
"""What a screened search is judged by: the only statistic that needs no other pairs of the same source or target, most
of which a screen leaves out."""

STATISTICS: Mapping[str, Callable[[Reciprocals], Reciprocals]] = Extensible(
    {
        "plain": plain,
        "source-normalised": source_normalised,
        "source-adjusted": source_adjusted,
        "reverse-controlled": reverse_controlled,
        "residual": residual,
        "residual-reverse-controlled": residual_reverse_controlled,
        "target-wise": target_wise,
        "target-contrast": target_contrast,
        "margin-contrast": margin_contrast,
        "commonality": commonality,
    },
    table="STATISTICS",
    made=callable_entry,
)
