"""Damaged model files end in one of the converters' errors, or as another valid model, and in nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from backscan.converters.errors import ConverterError
from backscan.converters.intake.artifact import artifact_from_bytes
from backscan.converters.ort_classifier import open_runtime
from backscan.converters.parity.parity import compare
from backscan.converters.signature.signature import read_signature
from backscan.converters.torch_import.importer import import_model
from tests import planted

FIXTURES = Path(__file__).parents[1] / "fixtures"
SOUND = {
    "convolutional": planted.convolutional(layout="NHWC", head="probabilities"),
    "fixed": planted.convolutional(batch=2),
    "quantised": (FIXTURES / "quantised_qoperator.onnx").read_bytes(),
    "jax": (FIXTURES / "jax_free.onnx").read_bytes(),
}
EDITS = ["drop input", "retarget", "operator", "drop attribute", "drop tensor", "size", "output"]
OPERATORS = ["Conv", "Relu", "Reshape", "Gemm", "Softmax", "Add", "Transpose", "If", "Concat", "Shape", "Sign"]


def flip_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(data)
    for place in rng.integers(len(damaged), size=rng.integers(1, 7)):
        damaged[place] = rng.integers(256)
    return bytes(damaged)


def rewire(data: bytes, rng: np.random.Generator) -> bytes:
    """Drop, exchange or retarget parts of the graph, so that it still parses."""
    model = onnx.load_model_from_string(data)
    graph = model.graph
    values = [name for node in graph.node for name in node.output] + [t.name for t in graph.initializer] + ["", "image"]
    for _ in range(rng.integers(1, 4)):
        node = graph.node[rng.integers(len(graph.node))]
        place = int(rng.integers(max(1, len(node.input))))
        edit = EDITS[rng.integers(len(EDITS))]
        if edit == "drop input" and node.input:
            del node.input[place]
        elif edit == "retarget" and node.input:
            node.input[place] = values[rng.integers(len(values))]
        elif edit == "operator":
            node.op_type = OPERATORS[rng.integers(len(OPERATORS))]
        elif edit == "drop attribute" and node.attribute:
            del node.attribute[int(rng.integers(len(node.attribute)))]
        elif edit == "drop tensor" and graph.initializer:
            del graph.initializer[int(rng.integers(len(graph.initializer)))]
        elif edit == "size":
            sizes = graph.input[0].type.tensor_type.shape.dim
            sizes[rng.integers(len(sizes))].dim_value = int(rng.integers(-1, 8))
        elif edit == "output":
            graph.output[0].name = values[rng.integers(len(values))]
    return model.SerializeToString()


@pytest.mark.parametrize("damage", [flip_bytes, rewire])
@pytest.mark.parametrize("name", SOUND)
def test_damage_ends_in_a_converter_error_or_a_model(name: str, damage) -> None:
    rng = np.random.default_rng(0)
    for _ in range(25):
        artifact = artifact_from_bytes("m.onnx", damage(SOUND[name], rng))
        try:
            signature = read_signature(artifact)
            classifier, runtime = import_model(artifact, signature), open_runtime(artifact, signature)
            images = rng.random((3, *signature.input_shape), dtype=np.float32)
            report = compare(classifier, runtime, images)
        except ConverterError:
            continue
        assert report.passed or report.reason
