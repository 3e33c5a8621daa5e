"""Nodes come into topological order: quickly, as far as needed and no further."""

from __future__ import annotations

import time

import onnx
import pytest
from onnx import helper

from backscan.converters import graph as graph_module
from backscan.converters.errors import ArtifactError
from backscan.converters.graph import reads, sort_nodes


def graph_of(body: str) -> onnx.GraphProto:
    return onnx.parser.parse_graph(f"g (float[4] image, bool open) => (float[4] scores) {{ {body} }}")


def outputs_of(graph: onnx.GraphProto) -> list[str]:
    return [node.output[0] for node in graph.node]


def chain(length: int) -> list[onnx.NodeProto]:
    return [helper.make_node("Relu", [f"v{index}"], [f"v{index + 1}"]) for index in range(length)]


def test_a_long_chain_in_reverse_takes_one_look_at_each_node(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def counted(node: onnx.NodeProto) -> set[str]:
        nonlocal looks
        looks += 1
        return reads(node)

    monkeypatch.setattr(graph_module, "reads", counted)
    graph = helper.make_graph(chain(20_000)[::-1], "reversed", [], [])
    began = time.perf_counter()
    sort_nodes(graph)
    seconds = time.perf_counter() - began
    assert outputs_of(graph) == [f"v{index}" for index in range(1, 20_001)]
    assert looks == 20_000
    assert seconds < 10  # about 1; what is quadratic takes a quarter of an hour


def test_nodes_in_order_stay_where_they_are() -> None:
    body = "b = Abs(image) a = Relu(image) d = Neg(image) c = Add(b, a) scores = Add(c, d)"
    graph = graph_of(body)
    kept = graph.SerializeToString()
    sort_nodes(graph)
    assert graph.SerializeToString() == kept


def test_a_name_defined_twice_does_not_disturb_the_order() -> None:
    graph = graph_of("a = Relu(image) b = Abs(a) a = Neg(b) scores = Add(a, b)")
    sort_nodes(graph)
    assert outputs_of(graph) == ["a", "b", "a", "scores"]


def test_a_node_goes_no_further_back_than_its_inputs_ask() -> None:
    graph = graph_of("scores = Add(late, early) early = Abs(image) aside = Neg(image) late = Relu(early)")
    sort_nodes(graph)
    assert outputs_of(graph) == ["early", "aside", "late", "scores"]


@pytest.mark.parametrize(
    "reader",
    [
        "scores = If (open) <then_branch = yes () => (float[4] y) { y = Add(late, inner) inner = Relu(image) }, "
        "else_branch = no () => (float[4] n) { n = Relu(image) }>",
        "scores = If (open) <then_branch = yes () => (float[4] late) { }, "
        "else_branch = no () => (float[4] n) { n = Relu(image) }>",
        "scores = Scan <num_scan_inputs = 1, body = turn (float x) => (float y) { y = Add(x, late) }> (image)",
    ],
)
def test_what_a_subgraph_captures_comes_first(reader: str) -> None:
    graph = graph_of(f"{reader} late = Abs(image)")
    sort_nodes(graph)
    assert outputs_of(graph) == ["late", "scores"]


def test_a_name_of_a_subgraphs_own_is_not_waited_for() -> None:
    reader = "scores = Scan <num_scan_inputs = 1, body = turn (float x) => (float y) { y = Neg(x) }> (image)"
    graph = graph_of(f"{reader} x = Abs(image) y = Relu(x)")
    sort_nodes(graph)
    assert outputs_of(graph) == ["scores", "x", "y"]


@pytest.mark.parametrize(
    "body",
    [
        "before = Relu(image) [stuck] a = Add(before, b) b = Abs(a) scores = Neg(b)",
        "before = Relu(image) scores = Neg(a) [stuck] a = Add(a, before)",
        "[stuck] a = If (open) <then_branch = yes () => (float[4] y) { y = Abs(b) }, "
        "else_branch = no () => (float[4] n) { n = Relu(image) }> b = Relu(a) scores = Neg(b)",
    ],
)
def test_a_cycle_is_refused_by_the_name_of_a_node_on_it(body: str) -> None:
    with pytest.raises(ArtifactError, match="node 'stuck' depends on its own output: export the model again"):
        sort_nodes(graph_of(body))
