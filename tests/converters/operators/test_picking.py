"""Operators that keep as many values as these say, onnxruntime as the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.converters.operators.single_node import assert_same, imported, model_of

VALUES = np.random.default_rng(0).integers(0, 4, size=(4, 3, 2)).astype(np.float32)
ROWS = np.array([[2, 1], [1, 5], [2, 1], [0, 7], [1, 5]], np.float32)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("condition", [[True], [False, True], [False, False]])
def test_compress(axis: int | None, condition: list[bool]) -> None:
    live = {"x": VALUES, "keep": np.array(condition)}
    attributes = {} if axis is None else {"axis": axis}
    assert_same(model_of("Compress", ["x", "keep"], live, **attributes), live)


@pytest.mark.parametrize("outputs", [1, 2, 3, 4])
@pytest.mark.parametrize("attributes", [{}, {"sorted": 0}, {"axis": 0}, {"axis": 0, "sorted": 0}, {"axis": -1}])
@pytest.mark.parametrize("values", [VALUES, ROWS])
def test_unique(values: Any, attributes: dict[str, int], outputs: int) -> None:
    assert_same(model_of("Unique", ["x"], {"x": values}, outputs=outputs, **attributes), {"x": values})


def test_the_gradient_reaches_what_is_kept() -> None:
    image = torch.tensor([3.0, 1.0, 3.0, 2.0], requires_grad=True)
    imported(model_of("Unique", ["x"], {"x": np.zeros(4, np.float32)}))(image).sum().backward()
    assert image.grad is not None
    assert image.grad.tolist() == [1, 1, 0, 1]
