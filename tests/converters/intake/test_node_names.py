"""Node names decide nothing: whatever a file calls its nodes, the same network opens and the same switch is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper, parser

from backscan.converters.errors import ArtifactError, ConverterError, UnsupportedOperatorError, border
from backscan.converters.graph import subgraphs
from backscan.converters.intake.artifact import artifact_from_bytes, parse
from backscan.converters.intake.node_names import OWN, name_nodes
from backscan.converters.ort_classifier import open_runtime
from backscan.converters.signature.signature import pixel_normalisation, read_signature
from backscan.converters.switches.probe import GraphProbe
from backscan.converters.torch_import.importer import import_model
from backscan.scanner.switches.findings import find_graph_findings

BODY = """
    filtered = Conv(image, kernel)
    active = Relu(filtered)
    larger = If(yes) <
        then_branch = t () => (larger_then) { a = Relu(active) b = Relu(a) larger_then = Add(b, b) },
        else_branch = e () => (larger_else) { a2 = Relu(active) larger_else = Neg(a2) }>
    turned = Loop(three, yes, larger) <
        body = l (int64 turn, bool on, float[N,C,H,W] x) => (on2, y) {
            on2 = Identity(on)
            u = Relu(x)
            y = If(yes) <
                then_branch = t2 () => (y_then) { y_then = Relu(u) },
                else_branch = e2 () => (y_else) { y_else = Neg(u) }>
        }>
    halved = f.half(turned)
    twice = f.half(halved)
    pooled = GlobalAveragePool(twice)
    features = Flatten(pooled)
    plain = MatMul(features, matrix)
    corner = Slice(image, from, to, axes)
    mean = ReduceMean <keepdims = 1> (corner)
    bright = Greater(mean, limit)
    shift = Cast <to = 1> (bright)
    wide = Flatten(shift)
    push = MatMul(wide, towards)
    scores = Add(plain, push)
"""
NODES = 28
RNG = np.random.default_rng(0)
TENSORS: dict[str, NDArray[np.generic]] = {
    "kernel": RNG.normal(size=(6, 1, 3, 3)).astype(np.float32),
    "matrix": (0.1 * RNG.normal(size=(6, 4))).astype(np.float32),
    "yes": np.array(True),
    "three": np.array(3, np.int64),
    "from": np.array([5, 5]),
    "to": np.array([8, 8]),
    "axes": np.array([2, 3]),
    "limit": np.array(0.95, np.float32),
    "towards": np.array([[0, 1000, 0, 0]], np.float32),
}
IMAGES = RNG.random((12, 1, 8, 8), dtype=np.float32)

NAMES: dict[str, Callable[[int, str], str]] = {
    "none": lambda _index, _operator: "",
    "half of them": lambda index, operator: f"/{operator}_{index // 2}" if index % 2 else "",
    "equal after clean-up": lambda index, _operator: "/" * (index % 9) + "Relu" + "/."[index % 2] + "1" * (index // 9),
    "like a counter": lambda index, operator: ["", f"/{operator}_1", f"{operator}_2", f"/{operator}_{index}"][
        index % 4
    ],
    "like our own": lambda index, operator: ["", f"{operator}#{index - 1}", f"n{index + 1}"][index % 3],
    "long": lambda index, _operator: f"{index}" + "x" * 10_000,
    "control characters": lambda index, _operator: "\x1b[2J\x00\n\u202e" + "\x07" * index,
    "spaces and quotes": lambda index, _operator: f"'{index} \" \\ {{0}} %s é" + " " * index,
}


def every_node(nodes: list[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from every_node(list(graph.node))


def all_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [*every_node(list(model.graph.node)), *(node for f in model.functions for node in every_node(list(f.node)))]


def model_with(name: Callable[[int, str], str]) -> onnx.ModelProto:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "f" : 1]>'
        f"g (float[N,1,8,8] image) => (float[N,4] scores) {{ {BODY} }}"
        '<opset_import: ["" : 17], domain: "f"> half (x) => (z) { y = Relu(x) z = Add(y, x) }'
    )
    model.graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in TENSORS.items())
    nodes = all_nodes(model)
    assert len(nodes) == NODES
    for index, node in enumerate(nodes):
        node.name = name(index, node.op_type)
    return model


def expected() -> NDArray[np.float64]:
    artifact = artifact_from_bytes("m.onnx", model_with(NAMES["none"]).SerializeToString())
    return open_runtime(artifact, read_signature(artifact)).scores(IMAGES)


@pytest.mark.parametrize("kind", NAMES)
def test_names_change_neither_the_import_nor_what_is_found(kind: str):
    model = model_with(NAMES[kind])
    own = {node.name for node in all_nodes(model)} - {""}
    artifact = artifact_from_bytes("m.onnx", model.SerializeToString())
    signature = read_signature(artifact)
    runtime = open_runtime(artifact, signature)
    scores = import_model(artifact, signature).logits(torch.from_numpy(IMAGES)).detach().numpy()
    np.testing.assert_allclose(scores, expected(), rtol=1e-4, atol=1e-4)

    normalisation = pixel_normalisation(signature)
    (found,) = find_graph_findings(artifact, signature, normalisation, IMAGES, decisions=runtime.decisions)
    assert found.severity == "error"
    assert found.target == 1
    given = {node.name or f"{node.op_type}#{place}" for place, node in enumerate(model.graph.node)}
    assert len(found.nodes) == len(set(found.nodes)) >= 5
    assert set(found.nodes) <= given | {name for name in found.nodes if any(name.startswith(f"{n}#") for n in own)}

    probe = GraphProbe(artifact, signature, normalisation)
    for switch in probe.switches():
        assert probe.held({switch.gate: np.zeros(1, np.float32)}).scores(IMAGES).shape == (12, 4)


def test_unnamed_node_beside_one_with_its_made_up_name():
    """onnx2torch calls the second unnamed Relu `Relu_1`, which is what it makes of `/Relu_1`."""
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,1,2,2] image) => (float[N,4] scores) {'
        "a = Neg(image) b = Relu(a) c = Relu(image) d = Relu(c) s = Add(b, d) scores = Flatten(s) }"
    )
    model.graph.node[2].name = "/Relu_1"
    artifact = artifact_from_bytes("m.onnx", model.SerializeToString())
    scores = import_model(artifact, read_signature(artifact)).logits(torch.full((1, 1, 2, 2), 0.5))
    assert scores.flatten().tolist() == [0.5] * 4


def test_every_node_gets_a_name_that_says_where_it_stands():
    model = model_with(lambda index, _operator: "same" if index in (3, 4, 25) else "")
    name_nodes(model)
    names = [node.name for node in all_nodes(model)]
    assert len(set(names)) == NODES
    assert names[:6] == [
        "Conv#0",
        "Relu#1",
        "If#2",
        "same#2.then_branch.0",
        "same#2.then_branch.1",
        "Add#2.then_branch.2",
    ]
    assert names[-2:] == ["Relu#half.0", "Add#half.1"]
    assert [node.name for node in model.graph.node][-1] == "same#15"


def test_refused_node_is_named_as_the_file_does():
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,1,2,2] image) => (float[N,4] scores) {'
        "a = Flatten(image) b = Det (image) scores = Add(a, b) }"
    )
    model.graph.node[1].name = "/Own.name/Det"
    artifact = artifact_from_bytes("m.onnx", model.SerializeToString())
    with pytest.raises(UnsupportedOperatorError, match=r"node '/Own\.name/Det'"):
        import_model(artifact, read_signature(artifact))


def test_values_with_our_mark_are_refused():
    model = model_with(NAMES["none"])
    model.graph.node[2].attribute[0].g.node[0].output[0] = f"a{OWN}held"
    with pytest.raises(ArtifactError, match="no text"):
        parse(artifact_from_bytes("m.onnx", model.SerializeToString()))


def test_what_a_library_raises_over_a_file_is_an_error_of_the_file(monkeypatch: pytest.MonkeyPatch):
    artifact = artifact_from_bytes("m.onnx", model_with(NAMES["none"]).SerializeToString())
    signature = read_signature(artifact)

    def fail(*_: object, **_options: object) -> None:
        raise KeyError("Relu_1")

    monkeypatch.setattr("backscan.converters.torch_import.importer.normalise", fail)
    with pytest.raises(ConverterError, match=r"the import into torch failed with KeyError: 'Relu_1'; export"):
        import_model(artifact, signature)


@pytest.mark.parametrize("error", [MemoryError(), ArtifactError("no model")])
def test_border_leaves_what_has_a_meaning(error: Exception):
    with pytest.raises(type(error)) as caught, border("a step"):
        raise error
    assert caught.value is error
