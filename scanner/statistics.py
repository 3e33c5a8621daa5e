"""What is compared across pairs: functions from the reciprocals of a scan to the statistics of the test.

A statistic takes reciprocals 1 / d(v_st) with sources as rows and targets as columns, [..., K, K], NaN where a pair
does not count, and gives an array of the same shape. It must not depend on the scale of the reciprocals beyond a
common factor, and where it needs a pair that is missing it gives NaN. The bootstrap applies the same function to its
draws, so leading axes are other matrices. A new statistic is a function and one line of `STATISTICS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Reciprocals = NDArray[np.float64]


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


def reverse_controlled(reciprocals: Reciprocals) -> Reciprocals:
    """r_st over the root of r_ts: natural similarity of two classes goes both ways, a backdoor does not.

    It loses power when an attack goes both ways or all to all, and a pair whose reverse is missing leaves it, so it
    never runs alone by default.
    """
    return reciprocals / np.sqrt(np.swapaxes(reciprocals, -1, -2))


STATISTICS: Mapping[str, Callable[[Reciprocals], Reciprocals]] = MappingProxyType(
    {
        "plain": plain,
        "source-normalised": source_normalised,
        "reverse-controlled": reverse_controlled,
    }
)
