"""Maximum likelihood for right-truncated members of the generalised inverse Gaussian family.

All null families are members: the density of a reciprocal u is proportional to
`u^(power - 1) exp(-inverse / u - rate u)`; Gamma has inverse 0, exponential also power 1, inverse Gaussian power -1/2.
XMK condition on u < 1, in units of the smallest excluded reciprocal (section 3.1.3). The fit needs only the means of
log u, 1/u and u, the log-likelihood is concave in (power, inverse, rate), and the derivatives of its normaliser are
moments. One quadrature over x = log u gives them all: there the log density is concave too, and is integrated from
its mode outwards until nothing is left.

The likelihood of the conditional density runs to the boundary rate = 0, where no unconditional density exists, exactly
when the mean of u is at least the mean under the best member with rate 0: by concavity, the slope along rate is there
E[u] - mean(u). For Gamma that member is the power law with k0 = -1 / mean(log u) and mean k0 / (k0 + 1); for the
exponential it is uniform, mean 1/2; for the inverse Gaussian the truncated Levy density with the same mean of 1/u.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from backscan.kernels._jit import (
    COUNT,
    FLAG,
    FLOAT,
    MATRIX,
    SIX_FLOATS,
    VECTOR,
    VOID,
    WRITEABLE_MATRIX,
    WRITEABLE_VECTOR,
    jit,
)

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

REACHED, BOUNDARY, FAILED = 0.0, 1.0, 2.0
POWER, INVERSE, RATE, STATUS, ITERATIONS = range(5)  # columns of a fit
MEAN_LOG, MEAN_INVERSE, MEAN = range(3)  # columns of a summary
NEITHER = -1  # neither power nor inverse is free
_LOG_NORMALISER, _MEAN_STATISTIC, _MEAN_U, _VARIANCE_STATISTIC, _COVARIANCE, _VARIANCE_U = range(6)

# Gauss-Legendre in three panels of [0, 1], narrow ones at the mode: a small power leaves a long flat tail behind it.
_GAUSS_NODES, _GAUSS_WEIGHTS = np.polynomial.legendre.leggauss(16)
_PANELS = np.array([0.0, 0.04, 0.25, 1.0])
_NODES = (_PANELS[:-1, None] + np.diff(_PANELS)[:, None] * 0.5 * (_GAUSS_NODES + 1.0)).ravel()
_WEIGHTS = (np.diff(_PANELS)[:, None] * 0.5 * _GAUSS_WEIGHTS).ravel()
_DROP = 38.0  # exp(-38) is below the rounding of the peak
_HALVINGS = 60  # of an interval that is too wide at most by overflow
_LEAST_GAP = 1e-10  # of log(mean) - mean(log): values that agree to five digits have no distribution to speak of
_MAX_ITERATIONS = 200  # damped Newton steps; 15 is the most seen in simulations with ten classes or more


@jit(WRITEABLE_MATRIX(MATRIX, VECTOR))
def summarise(rows: Matrix, cutoffs: Vector) -> Matrix:
    """Sufficient statistics of each row in units of its cutoff.

    Args:
        rows: Reciprocals, positive, [B, n].
        cutoffs: Unit of each row, positive, [B].

    Returns:
        Means of log u, 1/u and u = reciprocal / cutoff, [B, 3].
    """
    summaries = np.zeros((rows.shape[0], 3))
    for row in range(rows.shape[0]):
        for column in range(rows.shape[1]):
            u = rows[row, column] / cutoffs[row]
            summaries[row, MEAN_LOG] += math.log(u)
            summaries[row, MEAN_INVERSE] += 1.0 / u
            summaries[row, MEAN] += u
    means: Matrix = summaries / rows.shape[1]
    return means


@jit(FLOAT(FLOAT, FLOAT, FLOAT, FLOAT))
def _drop(power: float, left: float, right: float, offset: float) -> float:
    """How far the log density of x lies below its value at the mode, `offset` away from it.

    `left` is inverse / mode and `right` is rate * mode: in these units nothing cancels, however narrow the density.
    """
    shrink = math.expm1(-offset) if left > 0.0 else 0.0
    return right * math.expm1(offset) + left * shrink - power * offset


@jit(FLOAT(FLOAT, FLOAT, FLOAT, FLOAT))
def _reach(power: float, left: float, right: float, sign: float) -> float:
    """Distance from the mode, to the right (+1) or the left (-1), over which the log density falls by `_DROP`."""
    slope = max(sign * (right - left - power), 0.0)
    low, high = 0.0, 2.0 * _DROP / (slope + math.sqrt(slope * slope + 2.0 * (left + right) * _DROP))
    while _drop(power, left, right, sign * high) < _DROP:
        low, high = high, 2.0 * high
    for _ in range(_HALVINGS):
        if not _drop(power, left, right, sign * high) > 1.5 * _DROP:
            break
        middle = 0.5 * (low + high)
        if _drop(power, left, right, sign * middle) < _DROP:
            low = middle
        else:
            high = middle
    return high


@jit(FLOAT(FLOAT, FLOAT, FLOAT))
def _mode(power: float, inverse: float, rate: float) -> float:
    """Where u^power exp(-inverse / u - rate u), the density of x = log u, is largest on (0, 1]."""
    root = math.sqrt(power * power + 4.0 * rate * inverse)
    return min((power + root) / (2.0 * rate) if power > 0.0 else 2.0 * inverse / (root - power), 1.0)


@jit(SIX_FLOATS(FLOAT, FLOAT, FLOAT, FLAG))
def moments(power: float, inverse: float, rate: float, of_inverse: bool) -> tuple[float, ...]:
    """Log normaliser on (0, 1], and moments of u and of the statistic that belongs to the free shape.

    Args:
        power: Exponent plus 1; positive unless `inverse` is.
        inverse: Coefficient of 1/u, not negative.
        rate: Coefficient of u, not negative.
        of_inverse: Whether the statistic is -1/u; otherwise it is log u.

    Returns:
        Log normaliser, mean of the statistic, mean of u, variance of the statistic, its covariance with u,
        variance of u.
    """
    mode = _mode(power, inverse, rate)
    left, right = inverse / mode, rate * mode
    before = _reach(power, left, right, -1.0)
    after = min(_reach(power, left, right, 1.0), -math.log(mode)) if mode < 1.0 else 0.0
    total = s = y = ss = sy = yy = 0.0
    for index in range(2 * _NODES.size):
        width = after if index % 2 else -before
        offset = width * _NODES[index // 2]
        growth = math.expm1(offset)
        shrink = math.expm1(-offset) if left > 0.0 else 0.0
        mass = abs(width) * _WEIGHTS[index // 2] * math.exp(power * offset - left * shrink - right * growth)
        statistic = -shrink if of_inverse else offset
        total += mass
        s += mass * statistic
        y += mass * growth
        ss += mass * statistic * statistic
        sy += mass * statistic * growth
        yy += mass * growth * growth
    s, y, ss, sy, yy = s / total, y / total, ss / total, sy / total, yy / total
    # Back from units of the mode: log u = log(mode) + offset, -1/u = (-1 - shrink) / mode, u = mode (1 + growth).
    unit = 1.0 / mode if of_inverse else 1.0
    return (
        power * math.log(mode) - left - right + math.log(total),
        (s - 1.0) * unit if of_inverse else math.log(mode) + s,
        mode * (1.0 + y),
        (ss - s * s) * unit * unit,
        (sy - s * y) * unit * mode,
        (yy - y * y) * mode * mode,
    )


@jit(FLOAT(VECTOR, VECTOR))
def _exponent(point: Vector, summary: Vector) -> float:
    """Mean log-likelihood of x at a point (power, inverse, rate), before the normaliser."""
    value: float = (
        point[POWER] * summary[MEAN_LOG] - point[INVERSE] * summary[MEAN_INVERSE] - point[RATE] * summary[MEAN]
    )
    return value


@jit(FLOAT(VECTOR, SIX_FLOATS, COUNT, FLAG, WRITEABLE_VECTOR))
def _newton_step(summary: Vector, at_point: tuple[float, ...], shape: int, free_rate: bool, step: Vector) -> float:
    """Newton step of the mean log-likelihood; returns its squared decrement, twice the rise it promises."""
    mean_statistic: float = -summary[MEAN_INVERSE] if shape == INVERSE else summary[MEAN_LOG]
    free_shape = shape != NEITHER
    slope_shape = mean_statistic - at_point[_MEAN_STATISTIC] if free_shape else 0.0
    slope_rate: float = at_point[_MEAN_U] - summary[MEAN] if free_rate else 0.0
    # The Hessian is the covariance of the statistics (log u or -1/u, and -u); what is fixed gets a unit row.
    a = at_point[_VARIANCE_STATISTIC] if free_shape else 1.0
    b = -at_point[_COVARIANCE] if free_shape and free_rate else 0.0
    c = at_point[_VARIANCE_U] if free_rate else 1.0
    determinant = a * c - b * b
    step_shape = (c * slope_shape - b * slope_rate) / determinant
    step_rate = (a * slope_rate - b * slope_shape) / determinant
    step[RATE] = step_rate
    if free_shape:
        step[shape] = step_shape
    return step_shape * slope_shape + step_rate * slope_rate


@jit(FLOAT(WRITEABLE_VECTOR, VECTOR, COUNT, FLAG))
def _maximise(fit: Vector, summary: Vector, shape: int, free_rate: bool) -> float:
    """Damped Newton iteration from the point in `fit`, which it replaces by the best one.

    Args:
        fit: Power, inverse and rate to start from; iterations are added to.
        summary: Means of log u, 1/u and u.
        shape: Column of the free shape, `POWER`, `INVERSE` or neither.
        free_rate: Whether the rate is free; otherwise it stays as it is.

    Returns:
        Mean of u at the best point, NaN if the iteration did not converge.
    """
    point, step, value, decrement, scale = fit[:3].copy(), np.zeros(3), -math.inf, math.inf, 1.0
    for _ in range(_MAX_ITERATIONS):
        fit[ITERATIONS] += 1.0
        at_point = moments(point[POWER], point[INVERSE], point[RATE], shape == INVERSE)
        new_value = _exponent(point, summary) - at_point[_LOG_NORMALISER]
        # Where the decrement is tiny, values differ by rounding only and full steps converge.
        if new_value >= value or decrement < 1e-8:
            fit[:3], value = point, new_value
            if decrement < 1e-18:
                return at_point[_MEAN_U]
            decrement = _newton_step(summary, at_point, shape, free_rate, step)
            scale = 1.0
        else:
            scale *= 0.5
        while (shape != NEITHER and fit[shape] + scale * step[shape] <= 0.0) or fit[RATE] + scale * step[RATE] < 0.0:
            scale *= 0.5
        point = fit[:3] + scale * step
    return math.nan


@jit(FLOAT(VECTOR, VECTOR, COUNT))
def _log_likelihood(point: Vector, summary: Vector, shape: int) -> float:
    """Mean log-likelihood of x at a point (power, inverse, rate)."""
    normaliser: float = moments(point[POWER], point[INVERSE], point[RATE], shape == INVERSE)[_LOG_NORMALISER]
    return _exponent(point, summary) - normaliser


@jit(VOID(WRITEABLE_VECTOR, VECTOR, COUNT))
def _start(fit: Vector, summary: Vector, shape: int) -> None:
    """Replace the boundary point in `fit` by the fit of a complete sample where that is likelier.

    Where hardly anything is cut off it is nearly the answer, and the boundary is far away.
    """
    complete = fit[:3].copy()
    mean = summary[MEAN]
    if shape == POWER:
        gap = math.log(mean) - summary[MEAN_LOG]
        complete[POWER] = (3.0 - gap + math.sqrt((gap - 3.0) ** 2 + 24.0 * gap)) / (12.0 * gap)  # Minka 2002
    if shape == INVERSE:
        complete[INVERSE] = 0.5 / (summary[MEAN_INVERSE] - 1.0 / mean)
        complete[RATE] = complete[INVERSE] / (mean * mean)
    else:
        complete[RATE] = complete[POWER] / mean
    if _log_likelihood(complete, summary, shape) > _log_likelihood(fit[:3], summary, shape):
        fit[:3] = complete


@jit(VOID(WRITEABLE_VECTOR, VECTOR, COUNT))
def fit_row(fit: Vector, summary: Vector, shape: int) -> None:
    """Truncated fit of one sample from the power and inverse in `fit`, which it completes."""
    fit[STATUS] = FAILED
    spread = math.log(summary[MEAN]) - summary[MEAN_LOG] > _LEAST_GAP
    if not spread or not math.isfinite(summary[MEAN_INVERSE]):  # the mean of 1/u overflows where a value is about 0
        return
    if shape == INVERSE:
        fit[INVERSE] = 0.5 / (summary[MEAN_INVERSE] - 1.0)
        mean_at_boundary = _maximise(fit, summary, shape, False)
    else:
        if shape == POWER:
            fit[POWER] = -1.0 / summary[MEAN_LOG]
        mean_at_boundary = fit[POWER] / (fit[POWER] + 1.0)
    if summary[MEAN] >= mean_at_boundary:
        fit[STATUS] = BOUNDARY
    else:
        _start(fit, summary, shape)
        if not math.isnan(_maximise(fit, summary, shape, True)):
            fit[STATUS] = REACHED


@jit(WRITEABLE_MATRIX(MATRIX, FLOAT, FLOAT))
def fit_truncated(summaries: Matrix, power: float, inverse: float) -> Matrix:
    """Fit the density of u on (0, 1] to each row of sufficient statistics.

    Args:
        summaries: Means of log u, 1/u and u, [B, 3].
        power: Power of the family; NaN if it is free.
        inverse: Coefficient of 1/u of the family; NaN if it is free. Not both are free.

    Returns:
        Power, inverse, rate, status and iterations of each row, [B, 5].
    """
    shape = POWER if math.isnan(power) else INVERSE if math.isnan(inverse) else NEITHER
    fits = np.zeros((summaries.shape[0], 5))
    for row in range(summaries.shape[0]):
        fits[row, POWER], fits[row, INVERSE] = power, inverse
        fit_row(fits[row], summaries[row], shape)
    return fits
