"""Size offset d0 that accounts for class confusion without any pattern, XMK eq. (7).

Equation (7) asks for the polynomial in d + d0 without constant term, so one that vanishes at d = -d0, that fits the
rates best. The best polynomial P with a constant term is fitted once, in polynomials orthonormal on the sizes; holding
it to zero at x costs P(x)^2 / leverage(x) more, where leverage(x) is the sum of their squares at x. A root of P thus
costs nothing, and neither the fit nor the search over d0 is hurt by the bad condition of powers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backscan.kernels._jit import COUNT, FLOAT, MATRIX, VECTOR, WRITEABLE_MATRIX, jit

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

_GRID = 512  # steps over [0, largest size]: polynomials of order up to 8 have no finer structure that matters
_SECTIONS = 80  # golden sections, down to rounding
_GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)
_EQUAL = 1e-12  # residuals that differ by less than this share of the sum of squared rates count as equal


def size_offset(sizes: ArrayLike, rates: ArrayLike, order: int) -> float:
    """The size d0 that the initial confusion is worth. XMK eq. (7).

    Args:
        sizes: Norm of the pattern after each step, from 0 on, not negative, [T + 1].
        rates: Group misclassification rate at each size, [T + 1].
        order: Order M of the polynomial, at least 1; min(M, T - 1) is used, where T + 1 counts different sizes.

    Returns:
        Offset in [0, largest size], the smallest among equally good ones; 0 where the initial rate is 0 or there are
        fewer than three different sizes.

    Raises:
        ValueError: arrays of different or no length, values that are not finite, negative sizes, or an order below 1.
    """
    d, rho = np.array(sizes, dtype=np.float64), np.array(rates, dtype=np.float64)
    if d.ndim != 1 or d.shape != rho.shape or d.size == 0:
        raise ValueError(f"expected as many sizes as rates, at least one, found shapes {d.shape} and {rho.shape}")
    if not (np.all(np.isfinite(d)) and np.all(np.isfinite(rho)) and np.all(d >= 0.0)):
        raise ValueError("expected finite rates and finite sizes of at least 0, found others")
    if order < 1:
        raise ValueError(f"expected an order of at least 1, found {order}")
    different = np.unique(d).size
    if different < 3 or rho[0] == 0.0:
        return 0.0
    largest = float(d.max())
    return largest * _unit_offset(d / largest, rho, min(order, different - 2))


@jit(WRITEABLE_MATRIX(VECTOR, VECTOR, COUNT))
def _orthonormal_fit(sizes: Vector, rates: Vector, order: int) -> Matrix:
    """Least-squares polynomial with a constant term, by Stieltjes' three-term recurrence.

    Returns:
        For each degree j from 0 to `order` the centre a, the norm b and the coefficient c, [order + 1, 3]: the
        orthonormal polynomials are b[j] q[j] = (x - a[j-1]) q[j-1] - b[j-1] q[j-2], and P is the sum of c[j] q[j].
    """
    terms = np.zeros((order + 1, 3))
    before, polynomial = np.zeros(sizes.size), np.ones(sizes.size)
    for degree in range(order + 1):
        norm = math.sqrt(np.sum(polynomial * polynomial))
        polynomial = polynomial / norm
        centre = np.sum(sizes * polynomial * polynomial)
        terms[degree, 0], terms[degree, 1] = centre, norm
        terms[degree, 2] = np.sum(rates * polynomial)
        before, polynomial = polynomial, (sizes - centre) * polynomial - norm * before
    return terms


@jit(FLOAT(FLOAT, MATRIX))
def _cost(offset: float, terms: Matrix) -> float:
    """What it adds to the squared residual to make P vanish at -offset."""
    before, polynomial = 0.0, 1.0
    value = leverage = 0.0
    for degree in range(terms.shape[0]):
        centre, norm, coefficient = terms[degree, 0], terms[degree, 1], terms[degree, 2]
        polynomial /= norm
        value += coefficient * polynomial
        leverage += polynomial * polynomial
        before, polynomial = polynomial, (-offset - centre) * polynomial - norm * before
    return value * value / leverage


@jit(FLOAT(FLOAT, FLOAT, MATRIX))
def _golden_section(low: float, high: float, terms: Matrix) -> float:
    """The offset of least cost between two bounds around one minimum."""
    for _ in range(_SECTIONS):
        first, second = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if _cost(first, terms) <= _cost(second, terms):
            high = second
        else:
            low = first
    return low


@jit(FLOAT(VECTOR, VECTOR, COUNT))
def _unit_offset(sizes: Vector, rates: Vector, order: int) -> float:
    """The offset for sizes in [0, 1]: the first of the local minima whose cost is the least or equal to it."""
    terms = _orthonormal_fit(sizes, rates, order)
    costs = np.array([_cost(index / _GRID, terms) for index in range(_GRID + 1)])
    minima = np.full(_GRID + 1, math.nan)
    least = math.inf
    for index in range(_GRID + 1):
        low, high = max(index - 1, 0), min(index + 1, _GRID)
        if costs[index] <= costs[low] and costs[index] <= costs[high]:
            minima[index] = _golden_section(low / _GRID, high / _GRID, terms)
            least = min(least, _cost(minima[index], terms))
    bound = least + _EQUAL * np.sum(rates * rates)
    for offset in minima:
        if _cost(offset, terms) <= bound:  # never where there is no minimum: NaN
            return float(offset)
    return 0.0
