"""Damaged model files end in one of the converters' errors, or as another valid model, and in nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from backscan.converters.errors import ConverterError
from backscan.converters.intake.artifact import Artifact, artifact_from_bytes
from backscan.converters.ort_classifier import open_runtime
from backscan.converters.parity.parity import ParityReport, compare
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


def ending(artifact: Artifact, rng: np.random.Generator) -> ParityReport | ConverterError:
    """The error that refuses a model, or how well its import agrees with the file."""
    try:
        signature = read_signature(artifact)
        classifier, runtime = import_model(artifact, signature), open_runtime(artifact, signature)
    except ConverterError as error:
        return error
    return compare(classifier, runtime, rng.random((3, *signature.input_shape), dtype=np.float32))


@pytest.mark.parametrize("damage", [flip_bytes, rewire])
def test_damage_ends_in_a_converter_error_or_a_model_that_decides_as_the_file(damage) -> None:
    rng = np.random.default_rng(0)
    endings = [
        ending(artifact_from_bytes(name, damage(data, rng)), rng) for name, data in SOUND.items() for _ in range(25)
    ]
    refused = [error for error in endings if isinstance(error, ConverterError)]
    models = [report for report in endings if isinstance(report, ParityReport)]
    assert len(refused) > 20
    assert len(models) >= 10
    assert all(len(str(error)) > 20 for error in refused)
    assert [report.decision_agreement for report in models] == [1] * len(models)
    assert all(report.passed or "gradient" in report.reason for report in models)
