"""Gradients of the converters against central differences in float64, and under torch's function transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.converters.operators.single_node import Array, imported, model_of

Spec = tuple[str, dict[str, Any], dict[str, Array]]


def normal(*shape: int, seed: int = 0) -> Array:
    """Values that keep their distance from each other and from zero, where kinks would spoil the differences."""
    values = np.random.default_rng(seed).permutation(np.linspace(-2, 2, int(np.prod(shape)) + 1))
    return np.asarray(values[: int(np.prod(shape))].reshape(shape) + 1e-2)


IMAGE = (2, 4, 5, 6)
SPECS: list[Spec] = [
    ("Conv", {"pads": [1, 0, 2, 1], "strides": [2, 1]}, {"w": normal(3, 4, 3, 3, seed=1), "b": normal(3, seed=2)}),
    ("Conv", {"auto_pad": "SAME_LOWER", "strides": [2, 2], "group": 2}, {"w": normal(6, 2, 3, 2, seed=1)}),
    ("ConvTranspose", {"pads": [1, 0, 0, 1], "strides": [2, 2]}, {"w": normal(4, 2, 3, 3, seed=1)}),
    ("MaxPool", {"kernel_shape": [3, 2], "pads": [2, 0, 1, 1], "ceil_mode": 1, "strides": [2, 2]}, {}),
    ("AveragePool", {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "ceil_mode": 1, "strides": [2, 2]}, {}),
    ("LpPool", {"kernel_shape": [3, 2], "p": 2}, {}),
    ("GlobalLpPool", {"p": 3}, {}),
    ("GlobalMaxPool", {}, {}),
    ("BatchNormalization", {}, {n: normal(4, seed=i) ** 2 + 0.1 for i, n in enumerate("sbmv")}),
    ("InstanceNormalization", {}, {"s": normal(4, seed=1), "b": normal(4, seed=2)}),
    ("GroupNormalization", {"num_groups": 2}, {"s": normal(4, seed=1), "b": normal(4, seed=2)}),
    ("LayerNormalization", {"axis": 2}, {"s": normal(6, seed=1), "b": normal(6, seed=2)}),
    ("RMSNormalization", {"axis": -1}, {"s": normal(6, seed=1)}),
    ("LRN", {"size": 4}, {}),
    ("LpNormalization", {"axis": 1}, {}),
    ("MeanVarianceNormalization", {}, {}),
    ("Softmax", {"axis": 1}, {}),
    ("LogSoftmax", {"axis": 1}, {}),
    ("Elu", {"alpha": 0.7}, {}),
    ("Selu", {}, {}),
    ("Celu", {"alpha": 0.7}, {}),
    ("Gelu", {"approximate": "tanh"}, {}),
    ("HardSigmoid", {"alpha": 0.3}, {}),
    ("HardSwish", {}, {}),
    ("LeakyRelu", {"alpha": 0.2}, {}),
    ("Mish", {}, {}),
    ("PRelu", {}, {"s": normal(4, 1, 1, seed=1)}),
    ("Softplus", {}, {}),
    ("Swish", {"alpha": 1.7}, {}),
    ("ThresholdedRelu", {"alpha": 0.5}, {}),
    ("Clip", {}, {"low": np.array(-1.005), "high": np.array(1.005)}),
    ("Pad", {"mode": "reflect"}, {"p": np.array([0, 0, 1, 2, 0, 0, 2, 1])}),
    ("Pad", {"mode": "wrap"}, {"p": np.array([1, 0, 1, 2, 0, -1, 2, 1])}),
    ("Resize", {"mode": "linear", "antialias": 1}, {"r": np.zeros(0), "s": np.array([1, 1, 0.6, 1.5], np.float32)}),
    ("Resize", {"mode": "cubic"}, {"r": np.zeros(0), "s": np.array([1, 1, 1.5, 2], np.float32)}),
    ("Resize", {"mode": "nearest"}, {"r": np.zeros(0), "s": np.array([1, 1, 1.5, 2], np.float32)}),
    ("ReduceLogSumExp", {}, {"a": np.array([1, -1])}),
    ("ReduceL2", {}, {"a": np.array([1])}),
    ("ReduceMax", {}, {"a": np.array([2, 3])}),
    ("ReduceProd", {}, {"a": np.array([1, 2])}),
    ("MatMul", {}, {"w": normal(6, 3, seed=1)}),
    ("Gather", {"axis": 2}, {"i": np.array([[0, -1], [2, 2]])}),
    ("Slice", {}, {n: np.array([v]) for n, v in zip("abcd", (4, -9, 2, -2), strict=True)}),
    ("Pow", {}, {"e": np.array(3.0)}),
    ("Einsum", {"equation": "nchw,wk->nkch"}, {"w": normal(6, 3, seed=1)}),
    ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}, {}),
]
NAMES = [f"{operator}-{index}" for index, (operator, _, _) in enumerate(SPECS)]


def module_of(spec: Spec, images: Array) -> torch.nn.Module:
    operator, attributes, constants = spec
    opset = 24 if operator == "Swish" else 23 if operator == "RMSNormalization" else 21
    return imported(model_of(operator, ["x", *constants], {"x": images}, constants, opset=opset, **attributes))


@pytest.mark.parametrize("spec", SPECS, ids=NAMES)
def test_gradient_is_that_of_central_differences(spec: Spec) -> None:
    images = normal(*IMAGE)
    module = module_of(spec, images)
    inputs = torch.from_numpy(images).requires_grad_()
    assert torch.autograd.gradcheck(module, inputs, eps=1e-5, atol=1e-5, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec[0] != "MeanVarianceNormalization"], ids=lambda s: s[0])
def test_vectorising_over_single_images_gives_the_batch(spec: Spec) -> None:
    images = normal(*IMAGE).astype(np.float32)
    operator, attributes, constants = spec
    floats = {n: v.astype(np.float32) if v.dtype == np.float64 else v for n, v in constants.items()}
    if operator == "Pad":
        floats["p"] = floats["p"] * [0, 1, 1, 1, 0, 1, 1, 1]
    module = module_of((operator, attributes, floats), images[:1])
    batch = torch.from_numpy(images)
    together = torch.func.vmap(lambda image: module(image.unsqueeze(0)).squeeze(0))(batch)
    torch.testing.assert_close(together, module(batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("attributes", "masked"), [({}, False), ({"is_causal": 1}, False), ({"softcap": 2.0}, True), ({}, True)]
)
def test_gradient_of_attention(attributes: dict[str, Any], masked: bool) -> None:
    live = {name: normal(1, 2, 3, 4, seed=seed) for seed, name in enumerate("qkv")}
    constants = {"m": np.array([[True, False, True]] * 2 + [[False] * 3])} if masked else {}
    module = imported(model_of("Attention", [*live, *constants], live, constants, opset=23, **attributes))
    inputs = [torch.from_numpy(value).requires_grad_() for value in live.values()]
    assert torch.autograd.gradcheck(module, inputs, eps=1e-5, atol=1e-5, rtol=1e-4, fast_mode=True)


def test_gradient_where_a_norm_is_zero_is_zero() -> None:
    for operator, attributes in (("LpPool", {"kernel_shape": [2, 2]}), ("GlobalLpPool", {}), ("ReduceL2", {})):
        inputs = torch.zeros(1, 1, 4, 4, requires_grad=True)
        module = imported(model_of(operator, ["x"], {"x": np.zeros((1, 1, 4, 4), np.float32)}, opset=18, **attributes))
        result: Tensor = module(inputs)
        (gradient,) = torch.autograd.grad(result.sum(), inputs)
        assert torch.equal(gradient, torch.zeros_like(gradient)), operator
