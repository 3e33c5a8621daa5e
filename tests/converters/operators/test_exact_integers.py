"""Products of 8-bit numbers over their whole range, against numpy's integers: exact on every processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.converters.operators.single_node import Array, in_torch, model_of
from tests.converters.operators.test_quantised_operators import integers, scale, zero

ORIGINS: dict[Any, int] = {np.uint8: 120, np.int8: -5}


STEP = scale(1 / 64)  # powers of two, so that no tie depends on the last digit of a scale


def extreme(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> Array:
    """Integers of which half are the ends of the type's range, so that sums of pairs leave 16 bits."""
    draw, info = np.random.default_rng(seed + 100), np.iinfo(dtype)
    ends = np.where(draw.random(shape) < 0.5, info.min, info.max)
    return np.where(draw.random(shape) < 0.5, ends, integers(*shape, dtype=dtype, seed=seed)).astype(dtype)


def convolve(values: Array, weight: Array) -> Array:
    """Valid convolution of int64 [N, C, H, W] with [D, C, h, w]."""
    windows = np.lib.stride_tricks.sliding_window_view(values, weight.shape[2:], axis=(2, 3))
    return np.einsum("nchwij,dcij->ndhw", windows, weight)


def requantised(sums: Array, factor: Array, origin: int) -> Array:
    """Sums in steps of the output, ties to even, within uint8."""
    result: Array = np.clip(np.rint(sums * factor.astype(np.float64)) + origin, 0, 255)
    assert np.ptp(result) > 50
    return result


def computed(model: Any, live: dict[str, Array]) -> Array:
    (output,) = in_torch(model, live)
    return output.double().numpy()


@pytest.mark.parametrize("weight_type", ORIGINS)
def test_matmul_integer(weight_type: Any) -> None:
    values, weight = extreme(7, 64), extreme(64, 4, dtype=weight_type, seed=1)
    origins = integers(4, dtype=weight_type, seed=2)
    constants = {"w": weight, "xz": zero(20), "wz": origins}
    model = model_of("MatMulInteger", ["x", "w", "xz", "wz"], {"x": values}, constants)
    expected = (values.astype(np.int64) - 20) @ (weight.astype(np.int64) - origins)
    assert np.abs(expected).max() > 2**17
    np.testing.assert_array_equal(computed(model, {"x": values}), expected)


@pytest.mark.parametrize("weight_type", ORIGINS)
def test_conv_integer(weight_type: Any) -> None:
    values, weight = extreme(2, 3, 6, 6), extreme(4, 3, 3, 3, dtype=weight_type, seed=1)
    model = model_of("ConvInteger", ["x", "w", "xz"], {"x": values}, {"w": weight, "xz": zero(20)})
    expected = convolve(values.astype(np.int64) - 20, weight.astype(np.int64))
    np.testing.assert_array_equal(computed(model, {"x": values}), expected)


@pytest.mark.parametrize("weight_type", ORIGINS)
@pytest.mark.parametrize("columns", [1, 4])
def test_qlinear_matmul(weight_type: Any, columns: int) -> None:
    values, weight = extreme(7, 64), extreme(64, 4, dtype=weight_type, seed=1)
    scales, origin = scale(*[1 / 64, 1 / 32, 1 / 16, 1 / 64][:columns]), ORIGINS[weight_type]
    constants = {"xs": STEP, "xz": zero(20), "w": weight, "ws": scales}
    constants |= {"wz": zero(*[origin] * columns, dtype=weight_type), "ys": scale(1.0), "yz": zero(100)}
    model = model_of("QLinearMatMul", ["x", *constants], {"x": values}, constants)
    sums = (values.astype(np.int64) - 20) @ (weight.astype(np.int64) - origin)
    expected = requantised(sums, scales * STEP, 100)
    np.testing.assert_array_equal(computed(model, {"x": values}), expected)


@pytest.mark.parametrize("weight_type", ORIGINS)
def test_qgemm(weight_type: Any) -> None:
    values, weight = extreme(7, 64), extreme(64, 4, dtype=weight_type, seed=1)
    bias = np.array([100, -200, 300, 400], dtype=np.int32)
    origin = ORIGINS[weight_type]
    constants = {"xs": STEP, "xz": zero(20), "w": weight, "ws": STEP, "wz": zero(origin, dtype=weight_type)}
    constants |= {"c": bias, "ys": scale(1.0), "yz": zero(100)}
    model = model_of("QGemm", ["x", *constants], {"x": values}, constants, domain="com.microsoft")
    sums = (values.astype(np.int64) - 20) @ (weight.astype(np.int64) - origin) + bias
    expected = requantised(sums, STEP * STEP, 100)
    np.testing.assert_array_equal(computed(model, {"x": values}), expected)


@pytest.mark.parametrize("weight_type", ORIGINS)
@pytest.mark.parametrize("channels", [1, 4])
def test_qlinear_conv(weight_type: Any, channels: int) -> None:
    values, weight = extreme(2, 3, 6, 6), extreme(4, 3, 3, 3, dtype=weight_type, seed=1)
    scales, origin = scale(*[1 / 64, 1 / 32, 1 / 16, 1 / 64][:channels]), ORIGINS[weight_type]
    bias = np.array([100, -2000, 300, 4000], dtype=np.int32)
    constants = {"xs": STEP, "xz": zero(20), "w": weight, "ws": scales}
    constants |= {"wz": zero(*[origin] * channels, dtype=weight_type), "ys": scale(1.0), "yz": zero(100), "b": bias}
    model = model_of("QLinearConv", ["x", *constants], {"x": values}, constants)
    sums = convolve(values.astype(np.int64) - 20, weight.astype(np.int64) - origin) + bias[:, None, None]
    factor = scales * STEP
    expected = requantised(sums, factor.reshape(-1, 1, 1), 100)
    np.testing.assert_array_equal(computed(model, {"x": values}), expected)
