"""Networks that onnxruntime quantised, in every format it writes: its outputs, and a useful gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from backscan.converters.session import open_session, run_session
from tests.converters.operators.single_node import Array, imported, in_onnxruntime, model_from

CLASSES = 5
IMAGES: Array = np.random.default_rng(3).uniform(size=(40, 3, 12, 12)).astype(np.float32)


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Gives the images one by one."""

    def __init__(self) -> None:
        self._images: Iterator[Array] = iter(IMAGES[:20, None])

    def get_next(self) -> dict[str, Array] | None:
        """The next image, or None at the end."""
        image = next(self._images, None)
        return None if image is None else {"x": image}


@pytest.fixture(scope="module")
def network() -> ModelProto:
    """A small residual network with the operators that onnxruntime has quantised forms for."""
    draw = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3), "w3": (8, 1, 3, 3), "w4": (16, CLASSES), "w5": (8, 8)}
    weights = {name: draw.normal(size=shape) / np.sqrt(np.prod(shape[1:])) for name, shape in shapes.items()}
    biases = {"b1": draw.normal(size=8) / 4, "b4": draw.normal(size=CLASSES) / 4}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2"], ["c2"], auto_pad="SAME_UPPER"),
        helper.make_node("LeakyRelu", ["c2"], ["r2"], alpha=0.1),
        helper.make_node("Conv", ["r2", "w3"], ["c3"], group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c3"], ["g3"]),
        helper.make_node("Mul", ["c3", "g3"], ["s3"]),
        helper.make_node("Add", ["p1", "s3"], ["a3"]),
        helper.make_node("AveragePool", ["a3"], ["p3"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["p3"], ["v3"]),
        helper.make_node("Flatten", ["v3"], ["f3"]),
        helper.make_node("MatMul", ["f3", "w5"], ["m3"]),
        helper.make_node("Concat", ["f3", "m3"], ["f4"], axis=1),
        helper.make_node("Gemm", ["f4", "w4", "b4"], ["logits"]),
    ]
    constants = {name: value.astype(np.float32) for name, value in (weights | biases).items()}
    model = model_from(nodes, {"x": IMAGES[:1]}, constants, ["logits"], opset=17)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    return onnx.shape_inference.infer_shapes(model)


STATIC: list[dict[str, Any]] = [
    {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8},
    {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QInt8, "per_channel": True},
    {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt16, "weight_type": QuantType.QInt16},
    {"quant_format": QuantFormat.QOperator, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8},
    {"quant_format": QuantFormat.QOperator, "activation_type": QuantType.QUInt8, "per_channel": True},
    {"quant_format": QuantFormat.QOperator, "activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8},
]


def saturates(weight_type: QuantType) -> bool:
    """Whether onnxruntime by itself loses sums on x86 without VNNI: it needs signed weights of 7 bits there."""
    return bool(weight_type == QuantType.QInt8)


@pytest.mark.parametrize("options", STATIC, ids=str)
def test_static(network: ModelProto, options: dict[str, Any], tmp_path: Path) -> None:
    files = tmp_path / "original.onnx", tmp_path / "quantised.onnx"
    onnx.save(network, files[0])
    reduced = saturates(options.get("weight_type", QuantType.QInt8))
    quantize_static(*files, Calibration(), **options, reduce_range=reduced)
    check(network, onnx.load(files[1]))


@pytest.mark.parametrize("options", [STATIC[0], STATIC[4]], ids=str)
def test_vectorised_over_images(network: ModelProto, options: dict[str, Any], tmp_path: Path) -> None:
    onnx.save(network, tmp_path / "original.onnx")
    quantize_static(tmp_path / "original.onnx", tmp_path / "quantised.onnx", Calibration(), **options)
    module, images = imported(onnx.load(tmp_path / "quantised.onnx")), torch.from_numpy(IMAGES[:4])

    def score(image: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = module(image.unsqueeze(0))[0, 1]
        return result

    gradients = torch.func.vmap(torch.func.grad(score))(images)
    batch = images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(module(batch)[:, 1].sum(), batch)
    torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("weight_type", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamic(network: ModelProto, weight_type: QuantType, per_channel: bool, tmp_path: Path) -> None:
    files = tmp_path / "original.onnx", tmp_path / "quantised.onnx"
    onnx.save(network, files[0])
    reduced = saturates(weight_type)
    quantize_dynamic(*files, weight_type=weight_type, per_channel=per_channel, reduce_range=reduced)
    check(network, onnx.load(files[1]))


@pytest.mark.parametrize("options", [STATIC[0], STATIC[1], STATIC[4]], ids=str)
def test_weights_over_the_whole_range_where_a_scan_opens_the_model(
    network: ModelProto, options: dict[str, Any], tmp_path: Path
) -> None:
    files = tmp_path / "original.onnx", tmp_path / "quantised.onnx"
    onnx.save(network, files[0])
    quantize_static(*files, Calibration(), **options)
    check(network, onnx.load(files[1]), in_engine)


def in_engine(model: ModelProto, live: dict[str, Array]) -> list[Array]:
    """Outputs of a model in onnxruntime as a scan opens it: exact on every processor where there is a kernel."""
    return list(run_session(open_session(model.SerializeToString(), threads=1), live).values())


def check(original: ModelProto, quantised: ModelProto, run: Callable[..., list[Array]] = in_onnxruntime) -> None:
    """Demand the outputs of onnxruntime, and a gradient in the direction of the original network's."""
    assert {node.op_type for node in quantised.graph.node} != {node.op_type for node in original.graph.node}
    (expected,) = run(quantised, {"x": IMAGES})
    images = torch.from_numpy(IMAGES).requires_grad_()
    logits = imported(quantised)(images)
    spread = expected.max() - expected.min()
    # A value that onnxruntime rounds the other way moves a logit by a step of 1/255 of its range or two.
    np.testing.assert_allclose(logits.detach().numpy(), expected, atol=0.02 * float(spread))
    assert (logits.argmax(1).numpy() == expected.argmax(1)).mean() >= 0.95
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images)
    (wanted,) = torch.autograd.grad(imported(original)(images)[:, 0].sum(), images)
    assert torch.cosine_similarity(gradient.flatten(), wanted.flatten(), dim=0) > 0.8
