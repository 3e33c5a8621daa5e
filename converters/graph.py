"""Questions about an ONNX graph, and the few edits that every rewrite is made of.

A value is a named tensor; it is *reached* when it depends on what the image shows, not only on how large it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from backscan.converters.errors import ArtifactError

SHAPE_OPERATORS = frozenset({"Shape", "Size"})
"""Operators whose result depends on the size of their input and not on what it holds."""
_SHAPE_GIVING: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "AffineGrid": (1,),
        "BlackmanWindow": (0,),
        "CenterCropPad": (1,),
        "Col2Im": (1, 2),
        "Compress": (1,),
        "ConstantOfShape": (0,),
        "DFT": (1, 2),
        "Expand": (1,),
        "HammingWindow": (0,),
        "HannWindow": (0,),
        "If": (0,),
        "Loop": (0, 1),
        "MaxUnpool": (2,),
        "NonMaxSuppression": (0, 1, 2, 3, 4),
        "NonZero": (0,),
        "OneHot": (1,),
        "Pad": (1, 3),
        "Range": (0, 1, 2),
        "Reshape": (1,),
        "Resize": (1, 2, 3),
        "STFT": (1, 3),
        "SequenceAt": (1,),
        "SequenceErase": (1,),
        "Slice": (1, 2, 3, 4),
        "Split": (1,),
        "SplitToSequence": (1,),
        "Squeeze": (1,),
        "Tile": (1, 2),
        "TopK": (1,),
        "Unique": (0,),
        "Unsqueeze": (1,),
        "Upsample": (1,),
    }
)
"""Inputs whose numbers decide how large the result is; of reductions it is the second."""


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
    graph: onnx.GraphProto, sources: Iterable[str], *, stopped_by: Collection[str] = frozenset()
) -> set[str]:
    """Values that depend on what `sources` hold.

    A shape is reached only where it is a matter of what the image shows, as behind `NonZero` or where an input that
    gives a shape is reached; else it is a function of the shape of the sources.

    Args:
        graph: A graph in topological order.
        sources: Names of the values to start from, normally the image input.
        stopped_by: Operators whose result does not count as reached.

    Returns:
        Names of the reached values, `sources` included.
    """
    reached = set(sources)
    _flow_on(graph, reached, set(), stopped_by)
    return reached


def _flow_on(graph: onnx.GraphProto, reached: set[str], shaped: set[str], stopped_by: Collection[str]) -> None:
    """Add to `reached` what depends on it, and to `shaped` the values among it whose shape does."""
    for node in graph.node:
        needed = reads(node) & reached
        if not needed or node.op_type in stopped_by:
            continue
        if node.op_type in SHAPE_OPERATORS:
            if needed & shaped:
                reached.update(node.output)
            continue
        outputs = set(filter(None, node.output))
        reached |= outputs
        if needed & shaped or _gives_shape(node, reached) or _inner_shapes(node, reached, shaped, stopped_by):
            shaped |= outputs


def _gives_shape(node: onnx.NodeProto, reached: Collection[str]) -> bool:
    """Whether an input that decides how large the result is depends on what the image shows."""
    return any(name in reached for name in shape_inputs(node))


def _inner_shapes(node: onnx.NodeProto, reached: set[str], shaped: set[str], stopped_by: Collection[str]) -> bool:
    """Whether a graph inside the node gives a value whose shape depends on the image, or runs as often as it says."""
    for graph in subgraphs(node):
        entered = _entered(node, graph, reached)
        inner = reached | entered
        inner_shaped = shaped | {
            own.name for own, given in zip(graph.input, node.input, strict=False) if given in shaped
        }
        _flow_on(graph, inner, inner_shaped, stopped_by)
        if inner_shaped.intersection(value.name for value in graph.output):
            return True
        if node.op_type == "Loop" and graph.output[0].name in inner:
            return True
    return False


def _entered(node: onnx.NodeProto, graph: onnx.GraphProto, reached: set[str]) -> set[str]:
    """Inputs of a graph inside a node that depend on the image, those carried from round to round included."""
    shift = 1 if node.op_type == "Loop" else 0  # the number of the round has no output that it comes from
    names = [value.name for value in graph.input]
    entered = {own for own, given in zip(names, node.input, strict=False) if given in reached}
    while True:
        inner = reached_values(graph, reached | entered)
        carried = {own for own, value in zip(names[shift:], graph.output, strict=False) if value.name in inner}
        if carried <= entered:
            return entered
        entered |= carried


def shape_inputs(node: onnx.NodeProto) -> list[str]:
    """Inputs of a node whose numbers decide how large its result is."""
    positions = (1,) if node.op_type.startswith("Reduce") else _SHAPE_GIVING.get(node.op_type, ())
    return [node.input[index] for index in positions if index < len(node.input)]


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
