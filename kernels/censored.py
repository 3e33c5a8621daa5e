"""Truncated fits where small reciprocals are only known to be small: pairs whose search was stopped early.

A pair that needs a larger size than c leaves a reciprocal below the limit 1 / c and nothing more. With m of n values
below the limit l the likelihood is prod f(u) * F(l)^m / F(1)^n, in units of the cutoff. `truncated` fits families whose
likelihood needs means of log u, 1/u and u alone, so the EM algorithm is exact and short: the unknown values enter these
means by their expectations below the limit (Dempster, Laird & Rubin 1977), then the fit is the ordinary one.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from backscan.kernels._jit import FLOAT, MATRIX, VECTOR, VOID, WRITEABLE_MATRIX, WRITEABLE_VECTOR, jit
from backscan.kernels.truncated import (
    FAILED,
    INVERSE,
    MEAN,
    MEAN_INVERSE,
    MEAN_LOG,
    NEITHER,
    POWER,
    RATE,
    STATUS,
    fit_row,
    moments,
)

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

_MAX_ROUNDS = 2000
_CLOSE = 1e-11  # relative change of the expectations between rounds, far below what the data say
_LOG_MEAN, _MEAN_U = 1, 2  # of `moments`: mean of its statistic, and of u
_FEWEST_OBSERVED = 2


@jit(WRITEABLE_MATRIX(MATRIX, VECTOR, VECTOR))
def summarise_observed(rows: Matrix, cutoffs: Vector, limits: Vector) -> Matrix:
    """Means of log u, 1/u and u over the values above the limit, in units of the cutoff, and their number, [B, 4]."""
    summaries = np.zeros((rows.shape[0], 4))
    for row in range(rows.shape[0]):
        count = 0.0
        for column in range(rows.shape[1]):
            if rows[row, column] > limits[row]:
                u = rows[row, column] / cutoffs[row]
                count += 1.0
                summaries[row, MEAN_LOG] += math.log(u)
                summaries[row, MEAN_INVERSE] += 1.0 / u
                summaries[row, MEAN] += u
        summaries[row, :3] /= max(count, 1.0)
        summaries[row, 3] = count
    return summaries


@jit(VOID(VECTOR, FLOAT, WRITEABLE_VECTOR))
def _expect(fit: Vector, limit: float, expected: Vector) -> None:
    """Means of log u, 1/u and u below the limit under a fit: those of w = u / limit on (0, 1], scaled back."""
    inverse, rate = fit[INVERSE] / limit, fit[RATE] * limit
    of_log = moments(fit[POWER], inverse, rate, False)
    expected[MEAN_LOG] = math.log(limit) + of_log[_LOG_MEAN]
    expected[MEAN] = limit * of_log[_MEAN_U]
    # The mean of 1/u may not exist where no family that needs it is fitted.
    expected[MEAN_INVERSE] = 1.0 / expected[MEAN]
    if inverse > 0.0:
        expected[MEAN_INVERSE] = -moments(fit[POWER], inverse, rate, True)[_LOG_MEAN] / limit


@jit(WRITEABLE_MATRIX(MATRIX, VECTOR, FLOAT, FLOAT, FLOAT))
def fit_censored(summaries: Matrix, limits: Vector, size: float, power: float, inverse: float) -> Matrix:
    """Fit the density of u on (0, 1] to rows of which the values below a limit are unknown.

    Args:
        summaries: Means of log u, 1/u and u over the known values, and their number, [B, 4].
        limits: Limit of each row in units of its cutoff, below 1, [B].
        size: Values of a row, known or not.
        power: Power of the family; NaN if it is free.
        inverse: Coefficient of 1/u of the family; NaN if it is free. Not both are free.

    Returns:
        Power, inverse, rate, status and iterations of each row, [B, 5]; `FAILED` with fewer than two known values, or
        where the expectations do not settle.
    """
    shape = POWER if math.isnan(power) else INVERSE if math.isnan(inverse) else NEITHER
    fits = np.zeros((summaries.shape[0], 5))
    expected, before, mixed = np.zeros(3), np.zeros(3), np.zeros(3)
    for row in range(summaries.shape[0]):
        fit, limit, known = fits[row], limits[row], summaries[row, 3] / size
        fit[STATUS] = FAILED
        if summaries[row, 3] < _FEWEST_OBSERVED or not 0.0 < limit < 1.0:
            continue
        expected[MEAN_LOG], expected[MEAN_INVERSE], expected[MEAN] = math.log(limit), 1.0 / limit, limit
        converged = False
        for _ in range(_MAX_ROUNDS):
            mixed[:] = known * summaries[row, :3] + (1.0 - known) * expected
            fit[POWER], fit[INVERSE], fit[RATE] = power, inverse, 0.0
            fit_row(fit, mixed, shape)
            if fit[STATUS] == FAILED:
                break
            before[:] = expected
            _expect(fit, limit, expected)
            if np.max(np.abs(expected - before) / np.abs(before)) < _CLOSE:
                converged = True
                break
        if not converged:
            fit[STATUS] = FAILED
    return fits
