"""Steps: their values are those of onnxruntime, their gradients the surrogates that the module states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor

from tests.converters.operators.single_node import Array, assert_same, imported, model_from, model_of

VALUES = np.array([[-2.6, -0.5, -0.2, 0.0, 0.3, 0.5, 1.5, 3.0]], dtype=np.float32)


def gradient_of(model: Any, values: Array = VALUES) -> Tensor:
    inputs = torch.from_numpy(values).requires_grad_()
    (gradient,) = torch.autograd.grad(imported(model)(inputs).sum(), inputs)
    return gradient


@pytest.mark.parametrize("operator", ["Round", "Floor", "Ceil"])
def test_rounding_passes_the_gradient_unchanged(operator: str) -> None:
    model = model_of(operator, ["x"], {"x": VALUES})
    assert_same(model, {"x": VALUES})
    assert torch.equal(gradient_of(model), torch.ones(VALUES.shape))


def slope(values: Array) -> Array:
    """Derivative of x / (s + |x|), by central differences."""
    width = np.abs(values).mean()
    near = [x / (width + np.abs(x)) for x in (values.astype(np.float64) - 1e-6, values.astype(np.float64) + 1e-6)]
    return np.asarray((near[1] - near[0]) / 2e-6)


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
def test_sign_has_the_gradient_of_a_softer_sign_of_the_same_scale(scale: float) -> None:
    values = VALUES * np.float32(scale)
    model = model_of("Sign", ["x"], {"x": values})
    assert_same(model, {"x": values})
    np.testing.assert_allclose(gradient_of(model, values).numpy(), slope(values), rtol=1e-3)


def test_the_surrogate_of_one_image_does_not_depend_on_the_others() -> None:
    model = model_of("Sign", ["x"], {"x": VALUES})
    both = np.concatenate([VALUES, 100 * VALUES])
    assert torch.equal(gradient_of(model, both)[:1], gradient_of(model))
    assert torch.equal(gradient_of(model, np.zeros((1, 3), np.float32)).isfinite(), torch.ones(1, 3).bool())


@pytest.mark.parametrize(
    ("operator", "direction"), [("Greater", 1), ("GreaterOrEqual", 1), ("Less", -1), ("LessOrEqual", -1)]
)
def test_a_comparison_cast_to_a_float_is_a_step_with_a_gradient(operator: str, direction: int) -> None:
    nodes = [
        helper.make_node(operator, ["x", "t"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    model = model_from(nodes, {"x": VALUES}, {"t": np.float32([0.5])}, ["y"])
    assert_same(model, {"x": VALUES})
    expected = direction * 0.5 * slope(VALUES - np.float32(0.5))
    np.testing.assert_allclose(gradient_of(model).numpy(), expected, rtol=1e-3)


def test_a_choice_between_constants_passes_a_gradient_to_the_comparison() -> None:
    nodes = [
        helper.make_node("Greater", ["x", "t"], ["c"]),
        helper.make_node("Where", ["c", "high", "low"], ["y"]),
    ]
    constants = {"t": np.float32([0.5]), "high": np.float32([3.0]), "low": np.float32([1.0])}
    model = model_from(nodes, {"x": VALUES}, constants, ["y"])
    assert_same(model, {"x": VALUES}, rtol=0, atol=0)
    np.testing.assert_allclose(gradient_of(model).numpy(), slope(VALUES - np.float32(0.5)), rtol=1e-3)


def test_a_choice_between_computed_values_keeps_its_own_gradient() -> None:
    nodes = [
        helper.make_node("Greater", ["x", "t"], ["c"]),
        helper.make_node("Where", ["c", "x", "low"], ["y"]),
    ]
    model = model_from(nodes, {"x": VALUES}, {"t": np.float32([0.5]), "low": np.float32([0.0])}, ["y"])
    assert torch.equal(gradient_of(model), torch.from_numpy((VALUES > 0.5).astype(np.float32)))


def test_a_cast_to_integers_and_back_passes_the_gradient() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT32),
        helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    model = model_from(nodes, {"x": VALUES}, {}, ["y"])
    assert_same(model, {"x": VALUES})
    assert torch.equal(gradient_of(model), torch.ones(VALUES.shape))


@pytest.mark.parametrize("zero_point", [np.int8(-3), np.uint8(5)])
def test_quantising_passes_the_gradient_where_it_does_not_saturate(zero_point: Any) -> None:
    scale, values = np.float32(0.02), np.linspace(-6, 6, 301, dtype=np.float32)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    constants = {"s": np.asarray(scale), "z": np.asarray(zero_point)}
    model = model_from(nodes, {"x": values}, constants, ["y"])
    assert_same(model, {"x": values}, rtol=0, atol=0)
    info = np.iinfo(zero_point.dtype)
    steps = values / scale + zero_point
    inside = (steps >= info.min - 0.5) & (steps <= info.max + 0.5)
    assert 0 < inside.sum() < len(values)
    np.testing.assert_array_equal(gradient_of(model, values).numpy(), inside.astype(np.float32))
