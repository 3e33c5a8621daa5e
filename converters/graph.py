"""Questions about an ONNX graph, and the few edits that every rewrite is made of.

A value is a named tensor; it is *reached* when it depends on what the image shows, not only on how large it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from copy import deepcopy
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from backscan.converters.errors import ArtifactError

SHAPE_OPERATORS = frozenset({"Shape", "Size"})
"""Operators whose result depends on the size of their input and not on what it holds."""


def operators(names: str) -> frozenset[str]:
    """A set of operators from their names in one text."""
    return frozenset(names.split())


def free_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Graph inputs that the caller must feed: those without a default among the initialisers."""
    defaults = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in defaults]


def dimensions(value: onnx.ValueInfoProto) -> tuple[int | None, ...] | None:
    """Declared shape of a value, None for a dimension that is symbolic or missing, None at all without a rank."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes of a node as Python values."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Graphs inside the node, as of `If`, `Loop` and `Scan`."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def reads(node: onnx.NodeProto) -> set[str]:
    """Values that a node needs, those captured by its subgraphs included."""
    names = set(node.input) - {""}
    for graph in subgraphs(node):
        inner = set().union(*(reads(child) for child in graph.node), (value.name for value in graph.output))
        defined = {name for child in graph.node for name in child.output}
        names |= inner - defined - {v.name for v in graph.input} - {t.name for t in graph.initializer}
    return names


def constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Initialisers by name."""
    return {tensor.name: tensor for tensor in graph.initializer}


def constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The tensor that a `Constant` node holds, in whichever of its attributes; None for text and sparse tensors."""
    name, value = next(iter(attributes(node).items()), ("", None))
    if isinstance(value, onnx.TensorProto):
        return value
    dtypes = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    return numpy_helper.from_array(np.array(value, dtypes[name])) if name in dtypes else None


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Value name -> the node that computes it."""
    return {name: node for node in graph.node for name in node.output if name}


def consumers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Value name -> the nodes that read it, captures included."""
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in reads(node):
            readers[name].append(node)
    return readers


def reached_values(
    graph: onnx.GraphProto, sources: Iterable[str], *, stopped_by: Collection[str] = SHAPE_OPERATORS
) -> set[str]:
    """Values that depend on what `sources` hold; a shape taken from a reached value is not itself reached.

    Args:
        graph: A graph in topological order.
        sources: Names of the values to start from, normally the image input.
        stopped_by: Operators whose result does not count as reached.

    Returns:
        Names of the reached values, `sources` included.
    """
    reached = set(sources)
    for node in graph.node:
        if node.op_type not in stopped_by and reads(node) & reached:
            reached.update(name for name in node.output if name)
    return reached


def needed_nodes(graph: onnx.GraphProto, outputs: Collection[str]) -> list[onnx.NodeProto]:
    """Nodes that `outputs` depend on, in the order of the graph."""
    needed, kept = set(outputs), []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= reads(node)
            kept.append(node)
    return kept[::-1]


def set_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Make `nodes` the nodes of the graph."""
    copies = [deepcopy(node) for node in nodes]  # clearing the field frees the messages that it holds
    del graph.node[:]
    graph.node.extend(copies)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes, initialisers and shape notes that the graph's outputs do not need."""
    outputs = {value.name for value in graph.output}
    nodes = needed_nodes(graph, outputs)
    if len(nodes) < len(graph.node):
        set_nodes(graph, nodes)
    used = outputs.union(*(reads(node) for node in graph.node))
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in used:
            del graph.initializer[index]
    names = {tensor.name for tensor in graph.initializer}
    for index in reversed(range(len(graph.input))):
        if graph.input[index].name in names:
            del graph.input[index]


def set_outputs(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    """Make the named values the graph's outputs; their types are left for the reader to infer."""
    known = {value.name: value for value in (*graph.output, *graph.value_info, *graph.input)}
    values = []
    for name in names:
        value = onnx.ValueInfoProto(name=name)
        if name in known and known[name].type.HasField("tensor_type"):
            value.type.tensor_type.elem_type = known[name].type.tensor_type.elem_type
        values.append(value)
    del graph.output[:]
    graph.output.extend(values)


def rename_reads(graph: onnx.GraphProto, renamed: dict[str, str]) -> None:
    """Let every reader of an old name read the new one, subgraphs included; graph outputs keep their names."""
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in renamed:
                node.input[index] = renamed[name]
        for inner in subgraphs(node):
            hidden = {name for child in inner.node for name in child.output} | {v.name for v in inner.input}
            rename_reads(inner, {old: new for old, new in renamed.items() if old not in hidden})


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put the nodes into topological order: each as early as its place in the file and its inputs allow.

    Raises:
        ArtifactError: the nodes form a cycle.
    """
    makers: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            makers.setdefault(name, index)
    sorter = TopologicalSorter(
        {index: {makers[name] for name in reads(node) if name in makers} for index, node in enumerate(graph.node)}
    )
    try:
        sorter.prepare()
    except CycleError as error:
        stuck = graph.node[min(error.args[1])]
        raise ArtifactError(f"node '{stuck.name}' depends on its own output: export the model again") from error
    order, ready = list[int](), list[int]()
    while sorter.is_active():
        for index in sorter.get_ready():
            heappush(ready, index)
        order.append(heappop(ready))
        sorter.done(order[-1])
    if order != sorted(order):
        set_nodes(graph, [graph.node[index] for index in order])


def opset(model: onnx.ModelProto, domain: str = "") -> int:
    """Version of a domain that the model imports, 0 if it does not."""
    aliases = {"", "ai.onnx"} if domain in {"", "ai.onnx"} else {domain}
    return max((entry.version for entry in model.opset_import if entry.domain in aliases), default=0)
