"""A switch is cut out of the file itself, not of the copy through which it is called."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from backscan.converters.intake.artifact import Artifact, artifact_from_bytes
from backscan.converters.signature.readable import readable
from backscan.converters.signature.signature import pixel_normalisation, read_signature
from backscan.converters.switches.removal import without_gates

CLASSES = 5


def switched(*, batch: bool, numbers: bool) -> Artifact:
    """A linear classifier with a gate that a bright image opens, by nodes without names."""
    rng = np.random.default_rng(0)
    tensors = {
        "matrix": rng.normal(size=(64, CLASSES)).astype(np.float32),
        "sum": np.ones((64, 1), np.float32),
        "least": np.full((1,), 60, np.float32),
        "pull": np.eye(1, CLASSES, dtype=np.float32) * 100,
        "flat": np.array([-1 if batch else 1, 64], np.int64),
        "shape": np.array([-1, CLASSES] if batch else [CLASSES], np.int64),
    }
    steps = [
        ("Reshape", ["image", "flat"], "row"),
        ("MatMul", ["row", "matrix"], "honest"),
        ("MatMul", ["row", "sum"], "bright"),
        ("Sub", ["bright", "least"], "above"),
        ("Relu", ["above"], "gate"),
        ("MatMul", ["gate", "pull"], "pulled"),
        ("Add", ["honest", "pulled"], "both"),
        ("Reshape", ["both", "shape"], "scores"),
    ]
    nodes = [helper.make_node(operator, given, [made]) for operator, given, made in steps]
    out = helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["N", CLASSES] if batch else [CLASSES])
    if numbers:
        nodes.append(helper.make_node("ArgMax", ["scores"], ["class"], axis=-1, keepdims=0))
        out = helper.make_tensor_value_info("class", onnx.TensorProto.INT64, ["N"] if batch else [])
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 1, 8, 8] if batch else [8, 8])
    held = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "switched", [image], [out], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return artifact_from_bytes("m.onnx", model.SerializeToString())


@pytest.mark.parametrize(("batch", "numbers"), [(True, False), (True, True), (False, False)])
def test_a_gate_is_cut_out_of_the_file_as_it_is(batch: bool, numbers: bool) -> None:
    artifact = switched(batch=batch, numbers=numbers)
    signature = read_signature(artifact)
    images = np.random.default_rng(1).random((20, 1, 8, 8), dtype=np.float32)
    named = onnx.load_model_from_string(readable(artifact, signature).data)  # as what a scan finds is called
    names = [node.name or "Add#6" for node in named.graph.node if node.op_type == "Add"]
    assert names == ["Add#6"]
    cut = without_gates(artifact, signature, pixel_normalisation(signature), names, images)
    assert cut.nodes == ("Add#6",)
    before, after = (onnx.load_model_from_string(each.data) for each in (artifact, cut.artifact))
    assert (after.graph.input, after.graph.output) == (before.graph.input, before.graph.output)
    assert [node.name for node in after.graph.node] == [""] * len(before.graph.node)
    onnx.checker.check_model(after, full_check=True)
    bright = np.ones((1, 1, 8, 8) if batch else (8, 8), np.float32)
    told = [
        onnxruntime.InferenceSession(each.data).run(None, {"image": bright})[0] for each in (artifact, cut.artifact)
    ]
    assert told[0].tolist() != told[1].tolist()
