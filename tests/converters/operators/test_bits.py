"""Whole numbers bit by bit, as onnxruntime computes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.converters.operators.single_node import Array, in_torch, model_of


def _numbers(dtype: Any, *, seed: int) -> Array:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max, (5, 7), dtype=dtype, endpoint=True)


def _agree(model: Any, live: dict[str, Array]) -> None:
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, live)
    (found,) = in_torch(model, live)
    assert found.numpy().dtype == expected.dtype
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_shifts(dtype: Any, direction: str) -> None:
    places = np.random.default_rng(1).integers(0, 8 * np.dtype(dtype).itemsize, (5, 7)).astype(dtype)
    live = {"x": _numbers(dtype, seed=0), "y": places}
    _agree(model_of("BitShift", ["x", "y"], live, direction=direction), live)


@pytest.mark.parametrize("operator", ["BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint64])
def test_bitwise(operator: str, dtype: Any) -> None:
    live = {"x": _numbers(dtype, seed=0), "y": _numbers(dtype, seed=1)}
    if operator == "BitwiseNot":
        live.pop("y")
    _agree(model_of(operator, list(live), live), live)
