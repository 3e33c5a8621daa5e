"""Null distributions of reciprocals: the families, their fits to many samples at once, and their tails.

To add a member of the generalised inverse Gaussian family (see `truncated`) write its tail and density and one line of
`NULL_FAMILIES`; any other family brings its own compiled fit. numba is imported on first use, because the command
line reads the table to list its choices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Parameters = tuple[float, ...]

_FREE = math.nan
_LEAST_GAP = 1e-10  # as in `truncated`


class FitStatus(IntEnum):
    """How a fit ended."""

    REACHED = 0
    BOUNDARY = 1
    FAILED = 2


@dataclass(frozen=True, slots=True)
class Fits:
    """Fits of one family to B samples."""

    parameters: Matrix
    """Parameters in the family's order, [B, P]; infinite ones at the boundary, NaN where the fit failed."""
    statuses: NDArray[np.int64]
    """`FitStatus` of each, [B]."""
    iterations: NDArray[np.int64]
    """Newton steps of each, [B]; 0 for closed forms."""


@dataclass(frozen=True, slots=True)
class NullFamily:
    """A family of distributions of reciprocals: density proportional to r^(power - 1) exp(-inverse / r - rate r)."""

    parameter_names: tuple[str, ...]
    """Names of the parameters that users see, in order."""
    power: float
    """Fixed power, or NaN if it is fitted."""
    inverse: float
    """Fixed coefficient of 1 / r, or NaN if it is fitted."""
    parameters_from: Callable[[Matrix], Matrix]
    """Power, inverse and rate of fits, [B, 3], to parameters, [B, P]."""
    fit_complete: Callable[[Matrix], Matrix]
    """Means of log r, 1 / r and r of samples that are not truncated, [B, 3], to power, inverse and rate, [B, 3]."""
    log_sf: Callable[[Vector, Matrix], Vector]
    """Values [B] and parameters [B, P] to the logarithm of the survival function, [B]."""
    log_pdf: Callable[[Vector, Parameters], Vector]
    """Values [n] and the parameters of one fit to the logarithm of the density, [n]."""
    sample: Callable[[Generator, Parameters, tuple[int, ...]], Vector]
    """Draws of a shape from one fit."""

    def fit(self, rows: Matrix, cutoffs: Vector | None, limit: float | None = None) -> Fits:
        """Maximum-likelihood fit of each row, conditional on lying below its cutoff. XMK section 3.1.3.

        Args:
            rows: Reciprocals, positive, [B, n].
            cutoffs: Right truncation point of each row, at least its largest value, [B]; None fits complete samples.
            limit: Of values at or below it no more is known than that; None where all are known. Only with cutoffs.

        Returns:
            Fits, unchanged by the scale of a row up to rounding. A truncated fit whose likelihood grows to the edge
            of the family is `BOUNDARY`; fewer than two values, values that agree to five digits, or one that is not
            positive, are `FAILED`.

        Raises:
            ValueError: a limit without cutoffs.
        """
        if limit is not None and cutoffs is None:
            raise ValueError("expected a cutoff for each row with unknown values, found none: leave the limit out")
        if rows.shape[1] < 2:
            return self._failed(rows.shape[0])
        if cutoffs is None:
            units = rows.mean(axis=1)
            fits = self._complete_fits(_summarise(rows, units))
        else:
            units = cutoffs
            fits = self._truncated_fits(rows, units, limit)
        power, inverse, rate, statuses, iterations = fits.T
        with np.errstate(divide="ignore", invalid="ignore"):  # rate 0 at the boundary: infinite scale or mean
            parameters = self.parameters_from(np.column_stack((power, inverse * units, rate / units)))
        parameters[statuses == FitStatus.FAILED] = np.nan
        return Fits(parameters, statuses.astype(np.int64), iterations.astype(np.int64))

    def _truncated_fits(self, rows: Matrix, cutoffs: Vector, limit: float | None) -> Matrix:
        """Power, inverse, rate, status and iterations of truncated fits, [B, 5]."""
        if limit is None or rows.min() > limit:
            return _fit_truncated(_summarise(rows, cutoffs), self.power, self.inverse)
        from backscan.kernels.censored import fit_censored, summarise_observed

        units = np.ascontiguousarray(cutoffs)
        observed = summarise_observed(np.ascontiguousarray(rows), units, np.full(len(rows), limit))
        return fit_censored(observed, limit / units, float(rows.shape[1]), self.power, self.inverse)

    def _complete_fits(self, summaries: Matrix) -> Matrix:
        """Rows like those of `truncated.fit_truncated`."""
        spread = np.log(summaries[:, 2]) - summaries[:, 0] > _LEAST_GAP
        statuses = np.where(spread & np.isfinite(summaries[:, 1]), FitStatus.REACHED, FitStatus.FAILED)
        return np.column_stack((self.fit_complete(summaries), statuses, np.zeros(len(summaries))))

    def sf(self, value: float, parameters: Parameters) -> float:
        """Survival function 1 - G_R at one value."""
        return math.exp(self._log_sf_at(value, parameters))

    def cdf(self, value: float, parameters: Parameters) -> float:
        """Distribution function G_R at one value."""
        return -math.expm1(self._log_sf_at(value, parameters))

    def sample_largest(self, rng: Generator, parameters: Parameters, num_values: int, num_draws: int) -> Vector:
        """The largest of `num_values` draws from one fit, drawn `num_draws` times by inversion, [B]."""
        log_sfs = np.log(-np.expm1(np.log(rng.random(num_draws)) / num_values))
        return self.quantiles(log_sfs, parameters)

    def quantiles(self, log_sfs: Vector, parameters: Parameters) -> Vector:
        """The values at which the logarithm of the survival function is each of `log_sfs` (negative), by bisection."""
        row = np.asarray(parameters, dtype=np.float64)
        every = np.broadcast_to(row, (len(log_sfs), len(row))).copy()
        low, high = np.ones(len(log_sfs)), np.ones(len(log_sfs))
        while np.any(short := self.log_sf(high, every) > log_sfs):
            high[short] *= 2.0
        while np.any(long := self.log_sf(low, every) < log_sfs):
            low[long] *= 0.5
        while np.any(high > low * (1.0 + 1e-13)):
            middle = np.sqrt(low * high)
            short = self.log_sf(middle, every) > log_sfs
            low, high = np.where(short, middle, low), np.where(short, high, middle)
        return high

    def _log_sf_at(self, value: float, parameters: Parameters) -> float:
        return float(self.log_sf(np.array([value], dtype=np.float64), np.array([parameters], dtype=np.float64))[0])

    def _failed(self, num_rows: int) -> Fits:
        return Fits(
            parameters=np.full((num_rows, len(self.parameter_names)), np.nan),
            statuses=np.full(num_rows, FitStatus.FAILED, dtype=np.int64),
            iterations=np.zeros(num_rows, dtype=np.int64),
        )


def _summarise(rows: Matrix, units: Vector) -> Matrix:
    from backscan.kernels.truncated import summarise

    return summarise(np.ascontiguousarray(rows), np.ascontiguousarray(units))


def _fit_truncated(summaries: Matrix, power: float, inverse: float) -> Matrix:
    from backscan.kernels.truncated import fit_truncated

    return fit_truncated(summaries, power, inverse)


def _gamma_parameters(fits: Matrix) -> Matrix:
    return np.column_stack((fits[:, 0], 1.0 / fits[:, 2]))


def _gamma_complete(summaries: Matrix) -> Matrix:
    from backscan.kernels._families import gamma_shapes

    mean_log, _, mean = summaries.T
    shapes = gamma_shapes(np.maximum(np.log(mean) - mean_log, _LEAST_GAP))
    return np.column_stack((shapes, np.zeros_like(shapes), shapes / mean))


def _gamma_log_sf(values: Vector, parameters: Matrix) -> Vector:
    from backscan.kernels._families import gamma_log_sf

    return gamma_log_sf(values, parameters)


def _gamma_log_pdf(values: Vector, parameters: Parameters) -> Vector:
    shape, scale = parameters
    units = values / scale
    return (shape - 1.0) * np.log(units) - units - math.lgamma(shape) - math.log(scale)


def _gamma_sample(rng: Generator, parameters: Parameters, size: tuple[int, ...]) -> Vector:
    shape, scale = parameters
    return rng.gamma(shape, scale, size)


def _exponential_parameters(fits: Matrix) -> Matrix:
    return 1.0 / fits[:, 2:3]


def _exponential_complete(summaries: Matrix) -> Matrix:
    mean = summaries[:, 2]
    return np.column_stack((np.ones_like(mean), np.zeros_like(mean), 1.0 / mean))


def _exponential_log_sf(values: Vector, parameters: Matrix) -> Vector:
    return -values / parameters[:, 0]


def _exponential_log_pdf(values: Vector, parameters: Parameters) -> Vector:
    (scale,) = parameters
    return -values / scale - math.log(scale)


def _exponential_sample(rng: Generator, parameters: Parameters, size: tuple[int, ...]) -> Vector:
    (scale,) = parameters
    return rng.exponential(scale, size)


def _inverse_gaussian_parameters(fits: Matrix) -> Matrix:
    return np.column_stack((np.sqrt(fits[:, 1]) / np.sqrt(fits[:, 2]), 2.0 * fits[:, 1]))


def _inverse_gaussian_complete(summaries: Matrix) -> Matrix:
    _, mean_inverse, mean = summaries.T
    inverse = 0.5 / np.maximum(mean_inverse - 1.0 / mean, _LEAST_GAP)
    return np.column_stack((np.full_like(mean, -0.5), inverse, inverse / (mean * mean)))


def _inverse_gaussian_log_sf(values: Vector, parameters: Matrix) -> Vector:
    from backscan.kernels._families import inverse_gaussian_log_sf

    return inverse_gaussian_log_sf(values, parameters)


def _inverse_gaussian_log_pdf(values: Vector, parameters: Parameters) -> Vector:
    mean, shape = parameters
    deviations = (values - mean) / mean
    return 0.5 * np.log(shape / (2.0 * math.pi * values**3)) - 0.5 * shape * deviations**2 / values


def _inverse_gaussian_sample(rng: Generator, parameters: Parameters, size: tuple[int, ...]) -> Vector:
    mean, shape = parameters
    return rng.wald(mean, shape, size)


NULL_FAMILIES: Mapping[str, NullFamily] = MappingProxyType(
    {
        "gamma": NullFamily(
            parameter_names=("shape", "scale"),
            power=_FREE,
            inverse=0.0,
            parameters_from=_gamma_parameters,
            fit_complete=_gamma_complete,
            log_sf=_gamma_log_sf,
            log_pdf=_gamma_log_pdf,
            sample=_gamma_sample,
        ),
        "exponential": NullFamily(
            parameter_names=("scale",),
            power=1.0,
            inverse=0.0,
            parameters_from=_exponential_parameters,
            fit_complete=_exponential_complete,
            log_sf=_exponential_log_sf,
            log_pdf=_exponential_log_pdf,
            sample=_exponential_sample,
        ),
        "inverse-gaussian": NullFamily(
            parameter_names=("mean", "shape"),
            power=-0.5,
            inverse=_FREE,
            parameters_from=_inverse_gaussian_parameters,
            fit_complete=_inverse_gaussian_complete,
            log_sf=_inverse_gaussian_log_sf,
            log_pdf=_inverse_gaussian_log_pdf,
            sample=_inverse_gaussian_sample,
        ),
    }
)
