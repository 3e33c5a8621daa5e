"""Single quantised operators with every kind of scale and zero point: the integers of onnxruntime, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from backscan.converters.errors import ConversionError
from tests.converters.operators.single_node import Array, imported, in_onnxruntime, in_torch, model_of

CONTRIBUTED = "com.microsoft"


def integers(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> Array:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, size=shape).astype(dtype)


def weights(*shape: int, dtype: Any) -> Array:
    """Weights whose products onnxruntime adds exactly: x86 without VNNI saturates 16-bit sums of unsigned by signed.

    The whole range is in `test_exact_integers.py`, against numpy.
    """
    if dtype == np.int8:
        return np.random.default_rng(1).integers(-64, 64, size=shape).astype(np.int8)
    return integers(*shape, dtype=dtype, seed=1)


def scale(*values: float) -> Array:
    return np.array(values if len(values) > 1 else values[0], dtype=np.float32)


def zero(*values: int, dtype: Any = np.uint8) -> Array:
    return np.array(values if len(values) > 1 else values[0], dtype=dtype)


def check(operator: str, live: Any, constants: Any, *, ties: int = 0, **options: Any) -> None:
    """Demand onnxruntime's integers; at most `ties` of them may be rounded the other way."""
    model = model_of(operator, list(options.pop("names", [*live, *constants])), live, constants, **options)
    for mine, theirs in zip(in_torch(model, live), in_onnxruntime(model, live), strict=True):
        difference = np.abs(mine.double().numpy() - theirs.astype(np.float64))
        if theirs.dtype.kind == "f":
            np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-5, atol=1e-5)
        else:
            assert np.ptp(theirs) > 10
            assert (difference > 0).sum() <= ties
            assert difference.max() <= 1


INPUT = {"xs": scale(0.02), "xz": zero(120)}
OUTPUT = {"ys": scale(0.05), "yz": zero(100)}


@pytest.mark.parametrize("weight_type", [np.uint8, np.int8])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("attributes", [{"pads": [1, 1, 1, 1]}, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}])
def test_qlinear_conv(weight_type: Any, per_channel: bool, attributes: dict[str, Any]) -> None:
    origin = 0 if weight_type == np.int8 else 128  # onnxruntime wants one zero point for all channels
    constants = INPUT | {
        "w": weights(4, 3, 3, 3, dtype=weight_type),
        "ws": scale(0.01, 0.02, 0.03, 0.015) if per_channel else scale(0.01),
        "wz": zero(*[origin] * 4, dtype=weight_type) if per_channel else zero(origin, dtype=weight_type),
        "ys": scale(1.1),
        "yz": zero(100),
        "b": np.array([100, -2000, 300, 4000], dtype=np.int32),
    }
    check("QLinearConv", {"x": integers(2, 3, 6, 6)}, constants, **attributes)


@pytest.mark.parametrize("columns", [1, 4])
def test_qlinear_matmul(columns: int) -> None:
    constants = INPUT | {
        "w": weights(5, 4, dtype=np.int8),
        "ws": scale(*[0.01, 0.02, 0.03, 0.015][:columns]),
        "wz": zero(*[0] * columns, dtype=np.int8),
        "ys": scale(0.5),
        "yz": zero(100),
    }
    check("QLinearMatMul", {"x": integers(3, 5)}, constants)


@pytest.mark.parametrize("columns", [1, 4])
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("rescaled", [False, True])
def test_qgemm(columns: int, transposed: int, rescaled: bool) -> None:
    weight = integers(5, 4, seed=1)
    constants = INPUT | {
        "w": np.ascontiguousarray(weight.T) if transposed else weight,
        "ws": scale(*[0.01, 0.02, 0.03, 0.015][:columns]),
        "wz": zero(*[7, 130, 90, 200][:columns]),
        "c": np.array([100, -200, 300, 400], dtype=np.int32),
    }
    if rescaled:
        constants |= {"ys": scale(0.5), "yz": zero(100)}
    check("QGemm", {"x": integers(3, 5)}, constants, domain=CONTRIBUTED, alpha=0.5, transB=transposed)


@pytest.mark.parametrize("live_weight", [False, True])
def test_matmul_integer(live_weight: bool) -> None:
    weight = {"w": weights(5, 4, dtype=np.int8)}
    origins = {"xz": zero(120), "wz": zero(-3, 5, 7, 11, dtype=np.int8)}
    live = {"x": integers(3, 5)} | (weight if live_weight else {})
    constants = origins if live_weight else weight | origins
    check("MatMulInteger", live, constants, names=["x", "w", "xz", "wz"])


def test_conv_integer() -> None:
    constants = {"w": integers(4, 3, 3, 3, seed=1), "xz": zero(120), "wz": zero(90)}
    check("ConvInteger", {"x": integers(2, 3, 6, 6)}, constants, pads=[1, 0, 1, 0], kernel_shape=[3, 3])


@pytest.mark.parametrize("operator", ["QLinearAdd", "QLinearMul"])
def test_qlinear_arithmetic(operator: str) -> None:
    live = {"x": integers(2, 3, 4, 4), "w": integers(2, 3, 4, 4, seed=1)}
    constants = INPUT | {"ws": scale(0.03), "wz": zero(90)} | OUTPUT
    check(operator, live, constants, names=["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], domain=CONTRIBUTED, ties=1)


@pytest.mark.parametrize(
    ("operator", "attributes", "output"),
    [
        ("QLinearSigmoid", {}, scale(1 / 256)),
        ("QLinearLeakyRelu", {"alpha": 0.1}, scale(0.02)),
        ("QLinearSoftmax", {"axis": -1, "node_opset": 13}, scale(1 / 256)),
        ("QLinearSoftmax", {"axis": 2, "node_opset": 11}, scale(1 / 256)),
        ("QLinearGlobalAveragePool", {"channels_last": 0}, scale(0.005)),
        ("QLinearAveragePool", {"kernel_shape": [2, 3], "pads": [1, 1, 0, 1]}, scale(0.013)),
    ],
)
def test_qlinear_function(operator: str, attributes: dict[str, Any], output: Array) -> None:
    constants = INPUT | {"ys": output, "yz": zero(3)}
    # onnxruntime computes some of these by tables, so single values may round the other way.
    check(operator, {"x": integers(2, 9, 4, 5)}, constants, domain=CONTRIBUTED, ties=9, **attributes)


def test_qlinear_concat() -> None:
    live = {"x": integers(2, 3, 4), "w": integers(2, 5, 4, seed=1)}
    constants = OUTPUT | INPUT | {"ws": scale(0.03), "wz": zero(90)}
    check(
        "QLinearConcat",
        live,
        constants,
        names=["ys", "yz", "x", "xs", "xz", "w", "ws", "wz"],
        domain=CONTRIBUTED,
        axis=1,
    )


def test_qlinear_where() -> None:
    live = {"c": integers(2, 3) > 120, "x": integers(2, 3), "w": integers(2, 3, seed=1)}
    constants = OUTPUT | INPUT | {"ws": scale(0.03), "wz": zero(90)}
    names = ["c", "x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    check("QLinearWhere", live, constants, names=names, domain=CONTRIBUTED)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_per_axis_quantisation_with_different_zero_points(axis: int) -> None:
    values = np.random.default_rng(0).normal(size=(3, 3, 3)).astype(np.float32)
    constants = {"s": scale(0.01, 0.02, 0.03), "z": zero(3, 128, 250)}
    check("QuantizeLinear", {"x": values}, constants, axis=axis)
    check("DequantizeLinear", {"x": integers(3, 3, 3)}, constants, axis=axis)


def test_a_scale_that_is_computed_is_refused() -> None:
    live = {"x": integers(2, 3), "ys": scale(0.05)}
    model = model_of("QLinearSigmoid", ["x", "xs", "xz", "ys", "yz"], live, INPUT | {"yz": zero(3)}, domain=CONTRIBUTED)
    with pytest.raises(ConversionError, match="constant scale and zero point"):
        imported(model)


def test_gradients_of_dynamic_quantisation_are_those_of_the_values() -> None:
    values = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    inputs = torch.from_numpy(values).requires_grad_()
    quantised, step, origin = imported(model_of("DynamicQuantizeLinear", ["x"], {"x": values}, outputs=3))(inputs)
    (gradient,) = torch.autograd.grad(((quantised - origin) * step).sum(), inputs)
    torch.testing.assert_close(gradient, torch.ones_like(gradient))
