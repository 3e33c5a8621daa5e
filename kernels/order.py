"""Order statistics: how unlikely the most extreme of many values is, and how far it stands out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MAD_TO_DEVIATION = 1.4826  # median absolute deviation of a normal sample to its standard deviation


def order_p_value(sf_largest: float, num_pairs: int) -> float:
    """Probability that the largest of `num_pairs` null reciprocals reaches the observed one. XMK eq. (4).

    Args:
        sf_largest: Null survival function at the largest reciprocal, in [0, 1].
        num_pairs: Number of class pairs, K(K - 1), at least 1.

    Returns:
        p-value in [0, 1], accurate to relative rounding in the far tail.

    Raises:
        ValueError: `sf_largest` outside [0, 1] or `num_pairs` below 1.
    """
    if not 0.0 <= sf_largest <= 1.0:
        raise ValueError(f"expected sf_largest in [0, 1], found {sf_largest}")
    return math.exp(float(log_order_p_value(math.log(sf_largest) if sf_largest > 0.0 else -math.inf, num_pairs)))


def log_order_p_value(log_sf_largest: ArrayLike, num_pairs: int) -> NDArray[np.float64]:
    """Logarithm of `order_p_value`, which does not underflow.

    Args:
        log_sf_largest: Logarithm of the null survival function at the largest reciprocal, at most 0, any shape.
        num_pairs: Number of class pairs, K(K - 1), at least 1.

    Returns:
        log p, at most 0, in the shape of the argument.

    Raises:
        ValueError: a logarithm above 0 or not a number, or `num_pairs` below 1.
    """
    log_sf = np.asarray(log_sf_largest, dtype=np.float64)
    if num_pairs < 1:
        raise ValueError(f"expected num_pairs of at least 1, found {num_pairs}")
    if not np.all(log_sf <= 0.0):
        raise ValueError("expected logarithms of a survival function of at most 0, found a larger one or NaN")
    with np.errstate(divide="ignore"):  # log 0 at a survival function of exactly 1 gives p = 1, as it should
        tail = np.log(-np.expm1(num_pairs * np.log1p(-np.exp(log_sf))))
    # Far out p is num_pairs * sf to rounding, also where sf itself underflows.
    return np.where(log_sf < -40.0 - math.log(num_pairs), math.log(num_pairs) + log_sf, tail)


def anomaly_indices(values: ArrayLike) -> NDArray[np.float64]:
    """How many deviations each value lies below the median, by the median absolute deviation (Neural Cleanse).

    Args:
        values: One size for each class, finite, [K], K at least 1.

    Returns:
        (median - value) / (1.4826 median |value - median|), [K]: positive for values that are small for their
        company. Where more than half of the values agree, those that differ get plus or minus infinity.

    Raises:
        ValueError: not a vector of finite values, or an empty one.
    """
    sizes = np.asarray(values, dtype=np.float64)
    if sizes.ndim != 1 or sizes.size == 0 or not np.all(np.isfinite(sizes)):
        raise ValueError(f"expected a vector of finite values, found shape {sizes.shape} with {sizes.tolist()[:3]}")
    below = np.median(sizes) - sizes
    deviation = _MAD_TO_DEVIATION * np.median(np.abs(below))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below == 0.0, 0.0, below / deviation)


def quantile_with_error(values: ArrayLike, share: float) -> tuple[float, float]:
    """The least value that at least some share of all values do not exceed, and its standard error.

    An order statistic, without interpolation. The error is that of resampling the values ever so often, which has a
    closed form (Maritz & Jarrett 1978): the chance that a resample has its quantile at each value is a beta integral.

    Args:
        values: Finite values, [n], n at least 1.
        share: In (0, 1].

    Raises:
        ValueError: no values, or a share out of range.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if ordered.ndim != 1 or ordered.size == 0 or not 0.0 < share <= 1.0:
        raise ValueError(f"expected values and a share in (0, 1], found shape {ordered.shape} and {share}")
    from scipy.special import betainc

    rank = quantile_rank(ordered.size, share)
    chances = np.diff(betainc(rank, ordered.size - rank + 1, np.linspace(0.0, 1.0, ordered.size + 1)))
    middle = ordered[rank - 1]  # the variance about it, less the square of the bias: no digits are lost
    bias = float(chances @ (ordered - middle))
    variance = float(chances @ (ordered - middle) ** 2) - bias**2
    return float(middle), math.sqrt(max(variance, 0.0))


def quantile_rank(number: int, share: float) -> int:
    """Place, from 1, of the order statistic that is the quantile of some number of values."""
    return max(1, math.ceil(share * number - 1e-9))
