"""Compiled parts of the null families: tails of many fits at once, and the Gamma fit of a complete sample."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from backscan.kernels._jit import FLOAT, MATRIX, VECTOR, WRITEABLE_VECTOR, jit
from backscan.kernels.special import digamma, log_gamma_q, scaled_erfc, trigamma

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@jit(WRITEABLE_VECTOR(VECTOR, MATRIX))
def gamma_log_sf(values: Vector, parameters: Matrix) -> Vector:
    """Logarithm of the Gamma tail; `parameters` are rows of shape and scale."""
    tails = np.empty(values.size)
    for row in range(values.size):
        tails[row] = log_gamma_q(parameters[row, 0], values[row] / parameters[row, 1])
    return tails


@jit(FLOAT(FLOAT, FLOAT, FLOAT))
def _inverse_gaussian_log_sf(value: float, mean: float, shape: float) -> float:
    """Logarithm of the inverse Gaussian tail.

    With z = sqrt(shape / value) (value / mean -+ 1) the tail is N(-z1) - exp(2 shape / mean) N(-z2), N the normal
    distribution function; exp(-z1^2 / 2) is a factor of both terms, so it is taken out.
    """
    root = math.sqrt(0.5 * shape / value)
    near, far = root * (value / mean - 1.0), root * (value / mean + 1.0)
    if near > 0.0:
        return math.log(0.5 * (scaled_erfc(near) - scaled_erfc(far))) - near * near
    return math.log1p(-0.5 * math.exp(-near * near) * (scaled_erfc(-near) + scaled_erfc(far)))


@jit(WRITEABLE_VECTOR(VECTOR, MATRIX))
def inverse_gaussian_log_sf(values: Vector, parameters: Matrix) -> Vector:
    """Logarithm of the inverse Gaussian tail; `parameters` are rows of mean and shape."""
    tails = np.empty(values.size)
    for row in range(values.size):
        tails[row] = _inverse_gaussian_log_sf(values[row], parameters[row, 0], parameters[row, 1])
    return tails


@jit(WRITEABLE_VECTOR(VECTOR))
def gamma_shapes(gaps: Vector) -> Vector:
    """Maximum-likelihood Gamma shapes of complete samples, from log(mean) - mean(log) of each.

    Solves log(shape) - digamma(shape) = gap by Minka's Newton iteration on 1 / shape from his closed-form start.
    """
    shapes = np.empty(gaps.size)
    for row in range(gaps.size):
        gap = gaps[row]
        shape = (3.0 - gap + math.sqrt((gap - 3.0) ** 2 + 24.0 * gap)) / (12.0 * gap)
        for _ in range(50):
            excess = math.log(shape) - digamma(shape) - gap
            previous = shape
            shape = 1.0 / (1.0 / shape + excess / (shape * shape * (1.0 / shape - trigamma(shape))))
            if abs(shape - previous) < 1e-14 * shape:
                break
        shapes[row] = shape
    return shapes
