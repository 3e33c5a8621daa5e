"""Rule 6: branches whose condition is known and loops whose length is known become plain nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from backscan.converters.graph import attributes, constants, opset, rename_reads, set_nodes, subgraphs
from backscan.converters.intake.node_names import OWN

_MAX_TRIPS = 64
"""Longest loop that is unrolled; longer ones are left for the importer to refuse."""


def expand_control_flow(model: onnx.ModelProto) -> bool:
    """Rule 6: replace every `If` with a constant condition and every `Loop` with a constant, short trip count.

    Args:
        model: A model whose constants are folded.

    Returns:
        Whether anything was replaced.
    """
    graph = model.graph
    known = constants(graph)
    nodes: list[onnx.NodeProto] = []
    changed = False
    for node in graph.node:
        expand = {"If": _branch, "Loop": _unrolled}.get(node.op_type)
        # Of all values in the graph, the first output of this node has its name alone.
        replaced = None if expand is None else expand(model, node, known, f"{first_output(node)}{OWN}")
        nodes += [node] if replaced is None else replaced
        changed |= replaced is not None
    if changed:
        set_nodes(graph, nodes)
    return changed


def _branch(
    model: onnx.ModelProto, node: onnx.NodeProto, known: dict[str, onnx.TensorProto], prefix: str
) -> list[onnx.NodeProto] | None:
    if node.input[0] not in known:
        return None
    taken = "then_branch" if numpy_helper.to_array(known[node.input[0]]).all() else "else_branch"
    nodes, results = inlined(model.graph, attributes(node)[taken], {}, prefix)
    return nodes + [_copy_of(result, name) for result, name in zip(results, node.output, strict=True) if name]


def _unrolled(
    model: onnx.ModelProto, node: onnx.NodeProto, known: dict[str, onnx.TensorProto], prefix: str
) -> list[onnx.NodeProto] | None:
    trips, condition, *carried = (*node.input, "")[: max(2, len(node.input))]
    body: onnx.GraphProto = attributes(node)["body"]
    count = _trip_count(body, known, trips, condition)
    if count is None:
        return None
    nodes, stacked = list[onnx.NodeProto](), list[list[str]]()
    always = stored(model.graph, f"{prefix}condition", np.array(True))
    for trip in range(count):
        number = stored(model.graph, f"{prefix}trip_{trip}", np.array(trip, np.int64))
        given = dict(zip((value.name for value in body.input), (number, always, *carried), strict=True))
        inner, results = inlined(model.graph, body, given, f"{prefix}{trip}{OWN}")
        _name_turn(inner, f" in turn {trip} of {node.name}")
        nodes += inner
        carried = results[1 : 1 + len(carried)]
        stacked.append(results[1 + len(carried) :])
    nodes += [_copy_of(value, name) for value, name in zip(carried, node.output, strict=False) if name]
    for slices, name in zip(zip(*stacked, strict=True), node.output[len(carried) :], strict=True):
        nodes += _stack(model, slices, name)
    return nodes


def _stack(model: onnx.ModelProto, slices: Sequence[str], name: str) -> list[onnx.NodeProto]:
    """Nodes that put what each trip gave under one new leading axis."""
    rows = [f"{name}{OWN}row_{index}" for index in range(len(slices))]
    axes: dict[str, Any] = {"axes": [0]} if opset(model) < 13 else {}
    given = [] if axes else [stored(model.graph, f"{name}{OWN}axis", np.array([0], np.int64))]
    nodes = [
        helper.make_node("Unsqueeze", [value, *given], [row], name=f"{name}.row_{index}", **axes)
        for index, (value, row) in enumerate(zip(slices, rows, strict=True))
    ]
    return [*nodes, helper.make_node("Concat", rows, [name], name=f"{name}.rows", axis=0)]


def _trip_count(body: onnx.GraphProto, known: dict[str, onnx.TensorProto], trips: str, condition: str) -> int | None:
    """How often the loop runs, if that is certain: a constant count, and a condition that stays true."""
    if trips not in known or (condition and (condition not in known or not numpy_helper.to_array(known[condition]))):
        return None
    count = int(numpy_helper.to_array(known[trips]))
    kept_on = body.output[0].name
    makers = [node for node in body.node if kept_on in node.output]
    while makers and makers[0].op_type == "Identity":
        kept_on = makers[0].input[0]
        makers = [node for node in body.node if kept_on in node.output]
    inner = constants(body)
    always = kept_on == body.input[1].name or (kept_on in inner and bool(numpy_helper.to_array(inner[kept_on])))
    if makers and makers[0].op_type == "Constant":
        always = bool(numpy_helper.to_array(attributes(makers[0])["value"]))
    return count if always and 0 < count <= _MAX_TRIPS else None


def inlined(
    graph: onnx.GraphProto, body: onnx.GraphProto, given: dict[str, str], prefix: str
) -> tuple[list[onnx.NodeProto], list[str]]:
    """Nodes of a subgraph with its own names made unique, and the names of its results.

    Args:
        graph: Where its initialisers go.
        body: The subgraph.
        given: Its inputs -> what they are there.
        prefix: What no name of the graph begins with.
    """
    copy = deepcopy(body)
    own = {name for node in copy.node for name in node.output if name} | {t.name for t in copy.initializer}
    renamed = {name: f"{prefix}{name}" for name in own} | given
    rename_reads(copy, renamed)
    for node in copy.node:
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for tensor in copy.initializer:
        tensor.name = renamed[tensor.name]
        graph.initializer.append(tensor)
    return list(copy.node), [renamed.get(value.name, value.name) for value in copy.output]


def _name_turn(nodes: Iterable[onnx.NodeProto], turn: str) -> None:
    """Say in the names of nodes, and of all within them, to which turn of a loop they belong."""
    for node in nodes:
        node.name = node.name and f"{node.name}{turn}"
        for graph in subgraphs(node):
            _name_turn(graph.node, turn)


def first_output(node: onnx.NodeProto) -> str:
    """The first result of a node that has a name."""
    return next(filter(None, node.output), "")


def stored(graph: onnx.GraphProto, name: str, value: NDArray[Any]) -> str:
    """Store a constant; gives its name."""
    graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _copy_of(value: str, name: str) -> onnx.NodeProto:
    return helper.make_node("Identity", [value], [name], name=f"{name}.copy")
