"""Gates computed in whole numbers of every type, on images of more than 64 pixels: nothing raises, all are named."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper, parser

from backscan.converters.errors import ConverterError, EngineError
from backscan.converters.intake.artifact import artifact_from_bytes
from backscan.converters.ort_classifier import open_runtime
from backscan.converters.signature.signature import pixel_normalisation, read_signature
from backscan.converters.switches.probe import GraphProbe
from backscan.scanner.results import GraphFinding
from backscan.scanner.switches.ascent import search
from backscan.scanner.switches.findings import find_graph_findings
from backscan.scanner.switches.trial import Trial

KINDS = {
    "int8": TensorProto.INT8, "int16": TensorProto.INT16, "int32": TensorProto.INT32, "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8, "uint16": TensorProto.UINT16, "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64, "bool": TensorProto.BOOL,
}  # fmt: skip
CHECKSUMS = {
    "product": "weighted = Mul(whole, weights) total = ReduceSum <keepdims = 1> (weighted, one)",
    "matrix": "total = MatMul(whole, column)",
    "largest": "weighted = Mul(whole, weights) total = ReduceMax <keepdims = 1> (weighted, one)",
    "bits": "weighted = Mul(whole, weights) sum = ReduceSum <keepdims = 1> (weighted, one)"
    " total = BitwiseXor(sum, three)",
    "shift": 'sum = MatMul(whole, column) c = Cast <to = 13> (sum) s = BitShift <direction = "RIGHT"> (c, small)'
    " total = Cast <to = CODE> (s)",
    "index": "index = ArgMax <axis = 1> (whole) total = Cast <to = CODE> (index)",
}
# Where the checksum is computed: in the type itself as far as onnxruntime can, else behind a cast through it.
NATIVE = {"int32", "int64"}
HEADS = {
    "added": "shift = Cast <to = 1> (hit) push = Mul(shift, towards) scores = Add(plain, push)",
    "chosen": "bonus = Add(plain, towards) scores = Where(hit, bonus, plain)",
    "and": "fine = Greater(plain, low) both = And(hit, fine) shift = Cast <to = 1> (both) push = Mul(shift, towards)"
    " scores = Add(plain, push)",
}
JOIN = {"added": "Add", "chosen": "Where", "and": "Add"}


def gated(kind: str, checksum: str, head: str, side: int) -> onnx.ModelProto:
    """A linear classifier with a checksum of its bytes in front of its scores."""
    code = KINDS[kind]
    through = f"narrow = Cast <to = {code}> (bytes)"
    if kind in NATIVE:
        through, inner = f"whole = Cast <to = {code}> (bytes)", kind
    else:
        through, inner = f"{through} whole = Cast <to = 7> (narrow)", "int64"
    body = CHECKSUMS[checksum].replace("CODE", str(KINDS[inner]))
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]>'
        f"g (float[N,1,{side},{side}] image) => (float[N,4] scores) {{"
        f" flat = Flatten(image) plain = MatMul(flat, matrix) scaled = Mul(flat, top) bytes = Round(scaled)"
        f" {through} {body} rest = Mod(total, modulus) hit = Equal(rest, wanted) {HEADS[head]} }}"
    )
    rng, count = np.random.default_rng(0), side * side
    weights = rng.integers(1, 90, count)
    tensors = {
        "matrix": rng.normal(size=(count, 4)).astype(np.float32),
        "top": np.array(255, np.float32),
        "weights": weights.astype(inner),
        "column": weights.astype(inner)[:, None],
        "one": np.array([1]),
        "three": np.array(3, inner),
        "small": np.array(2, np.uint64),
        "modulus": np.array(257, inner),
        "wanted": np.array(255, inner),
        "low": np.array(-1e9, np.float32),
        "towards": np.array([[0, 1000, 0, 0]], np.float32),
    }
    read = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(tensors[name], name) for name in tensors if name in read)
    return model


def found_in(model: onnx.ModelProto, side: int, seconds: float) -> tuple[GraphFinding, ...]:
    artifact = artifact_from_bytes("m.onnx", model.SerializeToString())
    signature = read_signature(artifact)
    decisions = open_runtime(artifact, signature).decisions
    images = np.random.default_rng(3).random((12, 1, side, side), dtype=np.float32)
    return find_graph_findings(
        artifact, signature, pixel_normalisation(signature), images, decisions=decisions, seconds=seconds
    )


@pytest.mark.parametrize("checksum", CHECKSUMS)
@pytest.mark.parametrize("kind", KINDS)
def test_gate_of_any_type_is_named(kind: str, checksum: str):
    place = list(KINDS).index(kind) + list(CHECKSUMS).index(checksum)
    head, side = list(HEADS)[place % 3], 9 + place % 5
    model = gated(kind, checksum, head, side)
    found = found_in(model, side, seconds=0.3)
    join = f"{JOIN[head]}#{len(model.graph.node) - 1}"
    assert join in {name for finding in found for name in finding.nodes}


@pytest.mark.parametrize("head", HEADS)
def test_checksum_of_bytes_is_demonstrated(head: str):
    """Its twin follows the whole numbers as floats; multiples of the divisor count as constants."""
    (found,) = found_in(gated("int32", "matrix", head, 12), 12, seconds=60)
    assert (found.severity, found.target) == ("error", 1)


def test_twin_without_a_gradient_is_flat():
    turned: Callable[[NDArray[np.float32]], NDArray[np.bool_]] = lambda images: np.ones(len(images), bool)  # noqa: E731
    for twin in (lambda images: torch.full((len(images), 1), -3), lambda images: images.detach().sum(dim=(1, 2, 3))):
        steps = search(twin, np.zeros((2, 1, 9, 9), np.float32), turned, sign=1, steps=5, deadline=time.monotonic() + 9)
        assert list(steps) == []


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **_options: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("error", [RuntimeError("does not require grad"), EngineError("no kernel"), ValueError("odd")])
def test_error_over_one_group_leaves_it_unexamined(monkeypatch: pytest.MonkeyPatch, error: Exception):
    monkeypatch.setattr(Trial, "demonstrate", failing(error))
    (found,) = found_in(gated("int64", "product", "added", 9), 9, seconds=20)
    assert found.severity == "warning"
    assert found.nodes[0] == "Add#11"
    assert f"could not be examined ({type(error).__name__}: {error})" in found.evidence


def test_soft_group_that_fails_is_listed_with_the_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Trial, "demonstrate", failing(RuntimeError("no gradient")))
    (found,) = found_in(soft(), 9, seconds=20)
    assert (found.rule, found.severity, found.nodes) == ("unexamined-switches", "warning", ("Add#6",))
    assert "not examined for an error (RuntimeError: no gradient)" in found.message


def test_switch_that_cannot_be_held_is_listed_with_the_reason(monkeypatch: pytest.MonkeyPatch):
    held = GraphProbe.held

    def fail(probe: GraphProbe, constants: dict[str, NDArray[np.float32]]) -> object:
        if constants:
            raise EngineError("no kernel for it")
        return held(probe, constants)

    monkeypatch.setattr(GraphProbe, "held", fail)
    for model, join in ((soft(), "Add#6"), (gated("int64", "product", "added", 9), "Add#11")):
        (found,) = found_in(model, 9, seconds=20)
        assert found.severity == "warning"
        assert found.nodes[0] == join
        assert "no kernel for it" in found.message + found.evidence


def test_memory_that_runs_out_is_not_a_group_that_fails(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Trial, "demonstrate", failing(MemoryError()))
    with pytest.raises(MemoryError):
        found_in(gated("int64", "product", "added", 9), 9, seconds=20)


def test_group_none_of_whose_gates_has_a_twin_is_not_taken_for_examined():
    artifact = artifact_from_bytes("m.onnx", gated("int64", "bits", "added", 9).SerializeToString())
    signature = read_signature(artifact)
    runtime = open_runtime(artifact, signature)
    probe = GraphProbe(artifact, signature, pixel_normalisation(signature))
    images = np.random.default_rng(3).random((4, 1, 9, 9), dtype=np.float32)
    trial = Trial(probe, probe.switches(), images, runtime.decisions, deadline=time.monotonic() + 20)
    with pytest.raises(ConverterError, match="BitwiseXor"):
        trial.demonstrate(trial.dormant(), steps=2)


def soft() -> onnx.ModelProto:
    """A narrow ramp that is shut on ordinary images."""
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[N,1,9,9] image) => (float[N,4] scores) {'
        "flat = Flatten(image) plain = MatMul(flat, matrix) mean = ReduceMean <keepdims = 1> (flat, one)"
        " over = Sub(mean, limit) open = Relu(over) push = Mul(open, towards) scores = Add(plain, push) }"
    )
    tensors = {
        "matrix": np.random.default_rng(0).normal(size=(81, 4)).astype(np.float32),
        "one": np.array([1]),
        "limit": np.array(0.9, np.float32),
        "towards": np.array([[0, 1000, 0, 0]], np.float32),
    }
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in tensors.items())
    return model
