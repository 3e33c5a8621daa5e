"""Combinations of sizes, paddings and modes that ONNX's own suite leaves out, onnxruntime as the oracle.

Most were found by random search; each list keeps those that once differed or that only one branch of the code serves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.converters.operators.single_node import Array, assert_same, in_torch, model_of

Attributes = dict[str, Any]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("opset", [7, 11, 22])
@pytest.mark.parametrize(
    ("size", "attributes"),
    [
        ((9,), {"pads": [1, 2]}),
        ((8, 7), {"pads": [1, 0, 1, 0], "strides": [2, 1]}),
        ((8, 7), {"pads": [0, 1, 2, 3], "strides": [2, 3]}),
        ((8, 7), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((8, 7), {"auto_pad": "SAME_LOWER", "strides": [3, 2]}),
        ((8, 7), {"auto_pad": "VALID", "dilations": [2, 1]}),
        ((5, 6, 4), {"auto_pad": "SAME_UPPER", "strides": [1, 2, 3]}),
    ],
)
@pytest.mark.parametrize("group", [1, 2])
def test_conv(size: tuple[int, ...], attributes: Attributes, group: int, opset: int) -> None:
    live = {"x": normal(2, 4, *size)}
    constants = {"w": normal(6, 4 // group, *[3] * len(size)), "b": normal(6)}
    assert_same(model_of("Conv", ["x", "w", "b"], live, constants, opset=opset, group=group, **attributes), live)


@pytest.mark.parametrize(
    ("size", "attributes"),
    [
        ((5,), {"pads": [1, 0], "strides": [2]}),
        ((4, 5), {"pads": [1, 1, 1, 1], "strides": [2, 2], "output_padding": [1, 1]}),
        ((4, 5), {"pads": [0, 1, 1, 0], "strides": [3, 2], "output_padding": [1, 0]}),
        ((4, 5), {"auto_pad": "SAME_UPPER", "strides": [2, 1]}),
        ((4, 5), {"auto_pad": "SAME_LOWER", "strides": [2, 3], "dilations": [2, 1]}),
        ((4, 5), {"auto_pad": "SAME_UPPER", "strides": [4, 4]}),  # strides exceed the kernel
        ((4, 5), {"output_shape": [8, 10], "strides": [2, 2]}),
        ((4, 5), {"output_shape": [8, 10], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
        ((4, 5), {"output_shape": [16, 20], "strides": [4, 4]}),  # larger than the full output
        ((3, 4, 3), {"pads": [1, 0, 1, 0, 1, 1], "strides": [1, 2, 1], "group": 2}),
    ],
)
@pytest.mark.parametrize("bias", [False, True])
def test_conv_transpose(size: tuple[int, ...], attributes: Attributes, bias: bool) -> None:
    live, names = {"x": normal(2, 4, *size)}, ["x", "w"] + ["b"] * bias
    constants = {"w": normal(4, 3, *[3] * len(size))} | ({"b": normal(3 * attributes.get("group", 1))} if bias else {})
    assert_same(model_of("ConvTranspose", names, live, constants, **attributes), live)


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize(
    ("size", "attributes"),
    [
        ((9,), {"kernel_shape": [3], "strides": [2], "pads": [0, 1]}),
        ((8, 7), {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ((8, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
        ((7, 7), {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [2, 2, 2, 2], "ceil_mode": 1}),
        ((8, 7), {"kernel_shape": [3, 2], "dilations": [2, 1], "pads": [2, 0, 1, 1]}),
        ((9, 6), {"kernel_shape": [3, 3], "dilations": [2, 1], "strides": [1, 2], "auto_pad": "SAME_UPPER"}),
        ((8, 7), {"kernel_shape": [2, 3], "strides": [3, 2], "auto_pad": "SAME_LOWER", "ceil_mode": 1}),
        ((5, 6, 4), {"kernel_shape": [2, 3, 2], "strides": [2, 2, 1], "auto_pad": "VALID", "ceil_mode": 1}),
    ],
)
def test_pool(operator: str, size: tuple[int, ...], attributes: Attributes) -> None:
    live = {"x": normal(2, 3, *size)}
    assert_same(model_of(operator, ["x"], live, opset=22, **attributes), live)
    if operator == "AveragePool":
        assert_same(model_of(operator, ["x"], live, opset=22, count_include_pad=1, **attributes), live)
    if operator == "MaxPool":
        places = attributes | {"storage_order": 1, "outputs": 2}
        assert_same(model_of(operator, ["x"], live, opset=12, **places), live)


def test_same_padding_crops_where_strides_exceed_the_kernel() -> None:
    live = {"x": normal(2, 3, 9, 6)}
    model = model_of("LpPool", ["x"], live, opset=11, kernel_shape=[1, 1], strides=[3, 2], auto_pad="SAME_UPPER")
    assert_same(model, live)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("operator", ["GlobalLpPool", "LpNormalization"])
def test_norms(operator: str, order: int) -> None:
    live = {"x": normal(2, 3, 4, 5)}
    live["x"][0, 1] = 0
    if (operator, order) != ("LpNormalization", 3):
        assert_same(model_of(operator, ["x"], live, opset=21, p=order), live)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize(
    ("pads", "axes"),
    [
        ([0, 0, 1, 2, 0, 0, 2, 1], None),
        ([0, 0, 0, 0, 0, 0, 0, 0], None),
        ([1, 0, 1, 0, 1, 1, 0, 2], None),
        ([2, -1, 1, 2], [-1, 2]),
        ([-1, 0, 2, 1], [3, 2]),
    ],
)
def test_pad(mode: str, pads: list[int], axes: list[int] | None) -> None:
    live = {"x": normal(2, 3, 5, 4)}
    constants = {"p": np.array(pads), "v": np.array(0.7, dtype=np.float32)}
    names = ["x", "p", "v"]
    if axes is not None:
        constants["a"], names = np.array(axes), [*names, "a"]
    assert_same(model_of("Pad", names, live, constants, opset=21, mode=mode), live)


RESIZES: list[Attributes] = [
    {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "round_prefer_ceil"},
    {"mode": "nearest", "coordinate_transformation_mode": "half_pixel_symmetric", "nearest_mode": "floor"},
    {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel", "antialias": 1},
    {"mode": "cubic", "coordinate_transformation_mode": "half_pixel", "exclude_outside": 1, "cubic_coeff_a": -0.5},
    {"mode": "cubic", "coordinate_transformation_mode": "half_pixel", "antialias": 1},
    {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 2.5},
]


@pytest.mark.parametrize("attributes", RESIZES)
@pytest.mark.parametrize(
    ("scales", "sizes"),
    [([1, 1, 2.3, 0.7], None), ([1, 1, 1, 2], None), (None, [1, 2, 8, 2]), (None, [1, 2, 1, 4]), (None, [1, 2, 3, 12])],
)
def test_resize(attributes: Attributes, scales: list[float] | None, sizes: list[int] | None) -> None:
    live = {"x": normal(1, 2, 7, 4)}
    constants = {"r": np.array([0, 0, 0.2, -0.1, 1, 1, 0.9, 1.2], dtype=np.float32)}
    if scales is not None:
        constants["s"] = np.array(scales, dtype=np.float32)
    if sizes is not None:
        constants["z"] = np.array(sizes)
    names = ["x", "r", "s"] if sizes is None else ["x", "r", "", "z"]
    assert_same(model_of("Resize", names, live, constants, opset=19, **attributes), live, atol=1e-5)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller", "stretch"])
@pytest.mark.parametrize(("size", "wanted"), [((7, 4), (5, 6)), ((2, 5), (9, 4))])
def test_resize_keeps_the_aspect_ratio(policy: str, size: tuple[int, int], wanted: tuple[int, int]) -> None:
    live, constants = {"x": normal(1, 2, *size)}, {"z": np.array(wanted)}
    for attributes in ({}, {"mode": "linear", "antialias": 1}):
        model = model_of(
            "Resize",
            ["x", "", "", "z"],
            live,
            constants,
            opset=19,
            axes=[2, 3],
            keep_aspect_ratio_policy=policy,
            **attributes,
        )
        assert_same(model, live)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(("operator", "opset"), [("Upsample", 7), ("Upsample", 9), ("Resize", 10)])
def test_upsample(mode: str, operator: str, opset: int) -> None:
    scales = [1.0, 1.0, 2.0, 3.0] if operator == "Upsample" else [1.0, 1.0, 0.6, 1.5]
    live, constants = {"x": normal(1, 2, 5, 4)}, {"s": np.array(scales, dtype=np.float32)}
    if opset == 7:
        assert_same(model_of(operator, ["x"], live, opset=7, mode=mode, scales=scales), live)
    else:
        assert_same(model_of(operator, ["x", "s"], live, constants, opset=opset, mode=mode), live)


@pytest.mark.parametrize(
    ("start", "end", "axis", "step"),
    [
        (1, 2**62, 1, 1),
        (-2, 9, -1, 1),
        (4, -(2**62), 2, -2),
        (-9, -(2**62), 2, -1),  # the start lies before the axis: ONNX still takes the first entry
        (9, -3, -1, -1),
        (3, 1, 2, 1),
    ],
)
def test_slice(start: int, end: int, axis: int, step: int) -> None:
    live = {"x": normal(2, 3, 5)}
    bounds = {name: np.array([value]) for name, value in zip("abcd", (start, end, axis, step), strict=True)}
    assert_same(model_of("Slice", ["x", *bounds], live, bounds), live)
    computed = live | bounds
    assert_same(model_of("Slice", ["x", *bounds], computed), computed)


@pytest.mark.parametrize("operator", ["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceMean", "ReduceSumSquare"])
@pytest.mark.parametrize("noop", [0, 1])
@pytest.mark.parametrize("axes", [None, [], [-1, 0]])
def test_reduction(operator: str, noop: int, axes: list[int] | None) -> None:
    live = {"x": np.abs(normal(2, 3, 4)) + 0.1}
    constants = {} if axes is None else {"a": np.array(axes, dtype=np.int64)}
    model = model_of(operator, ["x", *constants], live, constants, opset=18, noop_with_empty_axes=noop)
    assert_same(model, live)


@pytest.mark.parametrize("shape", [(), (1,), (4,), (1, 4), (2, 1), (2, 4)])
@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(shape: tuple[int, ...], transposed: int) -> None:
    live = {"x": normal(2, 3)}
    constants = {"w": normal(*((4, 3) if transposed else (3, 4))), "b": np.asarray(normal(*shape), dtype=np.float32)}
    assert_same(model_of("Gemm", ["x", "w", "b"], live, constants, transB=transposed), live)
    assert_same(model_of("Gemm", ["x", "w", "b"], live, constants, transB=transposed, alpha=0.5, beta=2.0), live)


@pytest.mark.parametrize("shape", [(3, 1, 1), (1,), (3, 4, 5), (1, 1, 5)])
def test_prelu(shape: tuple[int, ...]) -> None:
    live = {"x": normal(2, 3, 4, 5)}
    assert_same(model_of("PRelu", ["x", "s"], live, {"s": normal(*shape)}), live)


@pytest.mark.parametrize("scale", [(), (1,), (5,), (3, 5), (1, 5)])
@pytest.mark.parametrize("outputs", [1, 3])
def test_layer_normalization(scale: tuple[int, ...], outputs: int) -> None:
    live = {"x": normal(2, 3, 5)}
    constants = {"s": np.asarray(normal(*scale), dtype=np.float32), "b": normal(5)}
    model = model_of("LayerNormalization", ["x", "s", "b"], live, constants, outputs=outputs, axis=1, epsilon=0.01)
    assert_same(model, live)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_local_response_normalization(size: int) -> None:
    """By its definition, because onnxruntime takes odd sizes alone."""
    values, alpha, beta, bias = normal(2, 7, 3, 2), 0.5, 0.6, 1.5
    expected = np.empty_like(values)
    for channel in range(7):
        near = values[:, max(0, channel - (size - 1) // 2) : channel + size // 2 + 1]
        expected[:, channel] = values[:, channel] / (bias + alpha / size * (near**2).sum(1)) ** beta
    model = model_of("LRN", ["x"], {"x": values}, size=size, alpha=alpha, beta=beta, bias=bias)
    np.testing.assert_allclose(in_torch(model, {"x": values})[0].numpy(), expected, rtol=1e-5)
