"""Special functions of the null families: regularised incomplete gamma, digamma, scaled error function.

Tails are logarithms computed as such, so they keep their relative accuracy where the function itself underflows.
scipy's own functions reach compiled code only by address, which cannot be cached; scipy is the oracle in the tests.
"""

from __future__ import annotations

import math

from backscan.kernels._jit import FLOAT, jit

_ASYMPTOTIC_FROM = 16.0  # five terms of the asymptotic series are exact to rounding from here on
_LOG_2PI = math.log(2.0 * math.pi)
_TINY = 1e-300


@jit(FLOAT(FLOAT, FLOAT))
def _deviance(shape: float, x: float) -> float:
    """`shape log(shape / x) + x - shape` without cancellation near x = shape (Loader 2000, "bd0")."""
    if abs(shape - x) >= 0.1 * (shape + x):
        return shape * math.log(shape / x) + x - shape
    ratio = (shape - x) / (shape + x)
    total = (shape - x) * ratio
    term = 2.0 * shape * ratio
    index = 1
    while True:
        term *= ratio * ratio
        following = total + term / (2 * index + 1)
        if following == total:
            return total
        total = following
        index += 1


@jit(FLOAT(FLOAT, FLOAT))
def _log_prefactor(shape: float, x: float) -> float:
    """`log(x^shape e^-x / Gamma(shape + 1))`; for large shapes the big terms cancel analytically."""
    if shape < _ASYMPTOTIC_FROM:
        return shape * math.log(x) - x - math.lgamma(shape + 1.0)
    inverse = 1.0 / (shape * shape)
    stirling = (1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse * (1 / 1680 - inverse / 1188)))) / shape
    return -0.5 * (_LOG_2PI + math.log(shape)) - stirling - _deviance(shape, x)


@jit(FLOAT(FLOAT, FLOAT))
def _log_series(shape: float, x: float) -> float:
    """Logarithm of P by its power series, for x below shape + 1."""
    term = 1.0
    total = 1.0
    index = 1
    while term > total * 1e-17:
        term *= x / (shape + index)
        total += term
        index += 1
    return _log_prefactor(shape, x) + math.log(total)


@jit(FLOAT(FLOAT, FLOAT))
def _log_fraction(shape: float, x: float) -> float:
    """Logarithm of Q by its continued fraction (modified Lentz), for x from shape + 1 on."""
    base = x + 1.0 - shape
    upper = 1.0 / _TINY
    lower = 1.0 / base
    fraction = lower
    index = 1
    while True:
        factor = -index * (index - shape)
        base += 2.0
        lower = factor * lower + base
        upper = base + factor / upper
        lower = 1.0 / (lower if abs(lower) > _TINY else _TINY)
        upper = upper if abs(upper) > _TINY else _TINY
        change = lower * upper
        fraction *= change
        if abs(change - 1.0) < 1e-15:
            return _log_prefactor(shape, x) + math.log(shape) + math.log(fraction)
        index += 1


@jit(FLOAT(FLOAT, FLOAT))
def log_gamma_p(shape: float, x: float) -> float:
    """Logarithm of the regularised lower incomplete gamma function P(shape, x).

    Args:
        shape: Shape, positive.
        x: Argument, not negative.

    Returns:
        log P in [-inf, 0].
    """
    if math.isnan(shape + x):
        return math.nan
    if x <= 0.0:
        return -math.inf
    if x == math.inf:
        return 0.0
    if x < shape + 1.0:
        return min(_log_series(shape, x), 0.0)
    return math.log1p(-math.exp(_log_fraction(shape, x)))


@jit(FLOAT(FLOAT, FLOAT))
def log_gamma_q(shape: float, x: float) -> float:
    """Logarithm of the regularised upper incomplete gamma function Q(shape, x), accurate in the far tail.

    Args:
        shape: Shape, positive.
        x: Argument, not negative.

    Returns:
        log Q in [-inf, 0].
    """
    if math.isnan(shape + x):
        return math.nan
    if x <= 0.0:
        return 0.0
    if x == math.inf:
        return -math.inf
    if x < shape + 1.0:
        return math.log1p(-math.exp(min(_log_series(shape, x), 0.0)))
    return _log_fraction(shape, x)


@jit(FLOAT(FLOAT))
def digamma(x: float) -> float:
    """Derivative of log Gamma at positive `x`: recurrence to 16, then the asymptotic series."""
    shifted = 0.0
    while x < _ASYMPTOTIC_FROM:
        shifted -= 1.0 / x
        x += 1.0
    inverse = 1.0 / (x * x)
    series = 1 / 12 - inverse * (1 / 120 - inverse * (1 / 252 - inverse * (1 / 240 - inverse * (1 / 132))))
    return shifted + math.log(x) - 0.5 / x - inverse * series


@jit(FLOAT(FLOAT))
def trigamma(x: float) -> float:
    """Derivative of `digamma` at positive `x`, in the same way."""
    shifted = 0.0
    while x < _ASYMPTOTIC_FROM:
        shifted += 1.0 / (x * x)
        x += 1.0
    inverse = 1.0 / (x * x)
    series = 1 / 6 - inverse * (1 / 30 - inverse * (1 / 42 - inverse * (1 / 30 - inverse * (5 / 66))))
    return shifted + 1.0 / x + 0.5 * inverse + inverse / x * series


@jit(FLOAT(FLOAT))
def scaled_erfc(x: float) -> float:
    """exp(x^2) erfc(x): what remains of the normal tail when its exponential is taken out.

    Args:
        x: Argument; below about -26 the result overflows to infinity.

    Returns:
        Positive value, accurate to rounding for x of 0 and above.
    """
    if x < 3.0:
        return math.exp(x * x) * math.erfc(x)
    fraction = x
    for index in range(50, 0, -1):  # Laplace's continued fraction, backwards
        fraction = x + 0.5 * index / fraction
    return 1.0 / (math.sqrt(math.pi) * fraction)
