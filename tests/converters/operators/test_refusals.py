"""What cannot be converted is refused by name, with what to do; what can be computed is not refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from backscan.converters.errors import ConversionError, UnsupportedOperatorError
from backscan.converters.operators.nodes import to_torch
from tests.converters.operators.single_node import Array, assert_same, imported, model_of


def zeros(*shape: int) -> Array:
    return np.zeros(shape, dtype=np.float32)


@pytest.mark.parametrize(
    ("operator", "live", "constants", "attributes", "found"),
    [
        ("Dropout", {"x": zeros(2, 3)}, {"r": np.float32(0.5), "t": np.array(True)}, {}, "training mode"),
        ("Conv", {"x": zeros(1, 1, 4, 4, 4, 4)}, {"w": zeros(1, 1, 2, 2, 2, 2)}, {}, "1 to 3 spatial axes, found 4"),
        ("Cast", {"x": zeros(2)}, {}, {"to": TensorProto.FLOAT8E5M2}, "found FLOAT8E5M2"),
        ("Trilu", {"x": zeros(3, 3), "k": np.array(1)}, {}, {}, "computed one"),
        (
            "Resize",
            {"x": zeros(1, 1, 4, 4)},
            {"r": zeros(0), "s": zeros(0), "z": np.array([2, 3])},
            {"axes": [-2, -1], "keep_aspect_ratio_policy": "not_larger"},
            "found [-2, -1]",
        ),
    ],
)
def test_refusal(operator: str, live: Any, constants: Any, attributes: dict[str, Any], found: str) -> None:
    constants = {name: np.asarray(value) for name, value in constants.items()}
    model = model_of(operator, [*live, *constants], live, constants, **attributes)
    with pytest.raises(ConversionError) as refusal:
        imported(model)
    assert found in str(refusal.value)
    assert (refusal.value.operator, refusal.value.opset) == (operator, 21)


def test_an_operator_without_gradient_is_unsupported() -> None:
    model = model_of("TreeEnsembleClassifier", ["x"], {"x": zeros(2, 4)}, domain="ai.onnx.ml", outputs=2)
    with pytest.raises(UnsupportedOperatorError, match="TreeEnsembleClassifier"):
        imported(model)


@pytest.mark.parametrize(
    ("operator", "names", "live", "attributes"),
    [
        ("Conv", ["x", "w", "b"], {"x": (2, 3, 6, 6), "w": (4, 3, 3, 3), "b": (4,)}, {"pads": [1, 1, 0, 0]}),
        ("Gemm", ["x", "w", "b"], {"x": (2, 3), "w": (4, 3), "b": (4,)}, {"transB": 1}),
        ("BatchNormalization", list("xsbmv"), {"x": (2, 3, 4), "s": (3,), "b": (3,), "m": (3,), "v": (3,)}, {}),
        ("Clip", ["x", "low", "high"], {"x": (2, 3), "low": (), "high": ()}, {}),
        ("Clip", ["x", "", "high"], {"x": (2, 3), "high": ()}, {}),
        ("PRelu", ["x", "s"], {"x": (2, 3, 4), "s": (3, 1)}, {}),
    ],
)
def test_parameters_may_be_computed(operator: str, names: list[str], live: Any, attributes: dict[str, Any]) -> None:
    draw = np.random.default_rng(0)
    values = {name: np.asarray(draw.uniform(0.1, 1, size=shape), dtype=np.float32) for name, shape in live.items()}
    assert_same(model_of(operator, names, values, **attributes), values)


@pytest.mark.parametrize(
    ("operator", "names", "shape", "constants"),
    [
        ("Reshape", ["x", "s"], (2, 6), {"s": np.array([0, 3, -1])}),
        ("Expand", ["x", "s"], (2, 1), {"s": np.array([3, 1, 4])}),
        ("Tile", ["x", "s"], (2, 3), {"s": np.array([2, 1])}),
        ("Split", ["x", "s"], (5, 2), {"s": np.array([5])}),
        ("Squeeze", ["x", "s"], (2, 1, 3, 1), {"s": np.array([-1])}),
        ("Unsqueeze", ["x", "s"], (2, 3), {"s": np.array([0, 3])}),
        ("Pad", ["x", "p", "", "a"], (2, 3), {"p": np.array([1, 2]), "a": np.array([1])}),
        ("Resize", ["x", "", "s"], (1, 1, 4, 4), {"s": np.array([1, 1, 2, 1.5], dtype=np.float32)}),
    ],
)
def test_shapes_may_be_computed(operator: str, names: list[str], shape: Any, constants: Any) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    live = {"x": values} | constants
    assert_same(model_of(operator, names, live), live)


@pytest.mark.parametrize("code", [TensorProto.BFLOAT16, TensorProto.INT4, TensorProto.UINT16, TensorProto.FLOAT8E4M3FN])
def test_types_that_numpy_lacks_are_read(code: int) -> None:
    tensor = to_torch(helper.make_tensor("t", code, [3], [1, 2, 3]))
    assert tensor.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="tensor of strings"):
        to_torch(numpy_helper.from_array(np.array(["a"], dtype=object), "s"))
