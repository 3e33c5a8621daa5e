"""The last linear layer is read whatever stands behind it, and its weights are those that move the scores."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from backscan.converters import artifact_from_bytes, open_runtime, read_signature
from backscan.converters.cuts.last_layer import LastLayer, last_layer

SIDE, FEATURES, CLASSES = 4, 6, 5
RNG = np.random.default_rng(0)
FILTERS = RNG.normal(size=(FEATURES, 1, 3, 3)).astype(np.float32)
WEIGHTS = RNG.normal(size=(CLASSES, FEATURES)).astype(np.float32)
BIAS = RNG.normal(size=CLASSES).astype(np.float32)
SCALE = np.array(0.01, np.float32)
WHOLE = np.round(WEIGHTS / SCALE).clip(-127, 127).astype(np.int8)

node = helper.make_node


def read(nodes: list[onnx.NodeProto], **tensors: np.ndarray) -> LastLayer | None:
    """The last layer of a network: a convolution and what the nodes make of its output `maps`, up to `scores`."""
    graph = helper.make_graph(
        [node("Conv", ["image", "filters"], ["maps"], kernel_shape=[3, 3]), *nodes],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in {"filters": FILTERS, **tensors}.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    artifact = artifact_from_bytes("model.onnx", model.SerializeToString())
    signature = read_signature(artifact)
    open_runtime(artifact, signature)
    return last_layer(artifact, signature)


def pooled(end: str = "Relu") -> list[onnx.NodeProto]:
    """Features [N, 6] of the maps behind a function."""
    return [
        node(end, ["maps"], ["on"]),
        node("GlobalAveragePool", ["on"], ["pool"]),
        node("Flatten", ["pool"], ["flat"]),
    ]


GEMM = node("Gemm", ["flat", "weights", "bias"], ["scores"], transB=1)
TURNED = node("Gemm", ["flat", "weights", "bias"], ["scores"], alpha=0.5)
PRODUCT = [node("MatMul", ["flat", "weights"], ["product"]), node("Add", ["product", "bias"], ["scores"])]
COOLED = [node("MatMul", ["flat", "weights"], ["product"]), node("Div", ["product", "scale"], ["scores"])]
SURE = [node("Gemm", ["flat", "weights", "bias"], ["logits"], transB=1), node("Softmax", ["logits"], ["scores"])]
MAPS = [
    node("Relu", ["maps"], ["on"]),
    node("Conv", ["on", "kernels", "bias"], ["last"]),
    node("GlobalAveragePool", ["last"], ["pool"]),
    node("Flatten", ["pool"], ["scores"]),
]
STORED = [
    node("DequantizeLinear", ["whole", "scale"], ["weights"]),
    node("Gemm", ["flat", "weights"], ["scores"], transB=1),
]


@pytest.mark.parametrize(
    ("nodes", "tensors", "factor"),
    [
        ([*pooled(), GEMM], {"weights": WEIGHTS, "bias": BIAS}, 1.0),
        ([*pooled(), TURNED], {"weights": WEIGHTS.T.copy(), "bias": BIAS}, 0.5),
        ([*pooled(), *PRODUCT], {"weights": WEIGHTS.T.copy(), "bias": BIAS}, 1.0),
        ([*pooled(), *COOLED], {"weights": WEIGHTS.T.copy(), "scale": np.float32(2.0)}, 1.0),
        ([*pooled(), *SURE], {"weights": WEIGHTS, "bias": BIAS}, 1.0),
        (MAPS, {"kernels": WEIGHTS[:, :, None, None], "bias": BIAS}, 1.0),
        ([*pooled(), *STORED], {"whole": WHOLE, "scale": SCALE}, None),
    ],
    ids=["gemm", "turned", "product", "cooled", "softmax", "convolution", "stored as int8"],
)
def test_weights_are_found_behind_what_does_not_change_the_order(nodes, tensors, factor):
    found = read(nodes, **tensors)
    expected = WHOLE.astype(float) * float(SCALE) if factor is None else WEIGHTS * factor
    assert found is not None
    np.testing.assert_allclose(found.weights, expected, rtol=1e-6)
    assert found.is_fed_positive


@pytest.mark.parametrize(("end", "positive"), [("Relu", True), ("Sigmoid", True), ("Tanh", False), ("Elu", False)])
def test_negative_features_are_told(end, positive):
    found = read([*pooled(end), GEMM], weights=WEIGHTS, bias=BIAS)
    assert found is not None
    assert found.is_fed_positive is positive


def test_sums_are_positive_where_all_parts_are():
    """Two ways join: both behind a ReLU, and one of them not."""
    for other, positive in (("Relu", True), ("Tanh", False)):
        ways = [node("Relu", ["maps"], ["one"]), node(other, ["maps"], ["two"]), node("Add", ["one", "two"], ["both"])]
        pool = [node("GlobalMaxPool", ["both"], ["pool"]), node("Flatten", ["pool"], ["flat"])]
        found = read([*ways, *pool, GEMM], weights=WEIGHTS, bias=BIAS)
        assert found is not None
        assert found.is_fed_positive is positive


def test_what_is_no_linear_layer_is_none():
    """Scores scaled class by class, turned round, or a product of two features."""
    by_class = [
        node("Gemm", ["flat", "weights", "bias"], ["last"], transB=1),
        node("Mul", ["last", "factors"], ["scores"]),
    ]
    assert read([*pooled(), *by_class], weights=WEIGHTS, bias=BIAS, factors=np.arange(1, 6, dtype=np.float32)) is None
    turned = [node("Gemm", ["flat", "weights", "bias"], ["last"], transB=1), node("Neg", ["last"], ["scores"])]
    assert read([*pooled(), *turned], weights=WEIGHTS, bias=BIAS) is None
    squares = [node("Gemm", ["flat", "weights", "bias"], ["last"], transB=1), node("Mul", ["last", "last"], ["scores"])]
    assert read([*pooled(), *squares], weights=WEIGHTS, bias=BIAS) is None
