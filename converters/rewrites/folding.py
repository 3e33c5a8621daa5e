"""Rules 3 to 5: constants and shapes. Values that the image cannot change are looked up, not evaluated here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from backscan.converters.graph import (
    constant_tensor,
    constants,
    drop_unused,
    producers,
    reached_values,
    reads,
    set_nodes,
)
from backscan.converters.intake.node_names import OWN
from backscan.converters.rewrites.setting import Setting
from backscan.converters.session import probe


def constants_to_initialisers(graph: onnx.GraphProto) -> None:
    """Rule 3: `Constant` nodes become initialisers; those of text or sparse tensors stay."""
    kept = []
    for node in graph.node:
        tensor = constant_tensor(node) if node.op_type == "Constant" else None
        if tensor is None:
            kept.append(node)
        else:
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
    if len(kept) < len(graph.node):
        set_nodes(graph, kept)


def fold_unreached(model: onnx.ModelProto, setting: Setting) -> None:
    """Rule 4: values that depend neither on the image nor on the batch size become initialisers."""
    graph = model.graph
    wanted = _unreached_frontier(graph, setting.signature.input_name)
    if not wanted:
        return
    runs = probe(model, wanted, setting.feeds())
    folded = {name for name in wanted if all(_same(run[name], runs[0][name]) for run in runs[1:])}
    for name in sorted(folded):
        graph.initializer.append(numpy_helper.from_array(np.asarray(runs[0][name]), name))
    made_by = producers(graph)
    for name in folded:  # other outputs of the node may still be needed, so only this name goes
        node = made_by[name]
        node.output[list(node.output).index(name)] = ""
    set_nodes(graph, [node for node in graph.node if any(node.output)])
    drop_unused(graph)


def _unreached_frontier(graph: onnx.GraphProto, image: str) -> list[str]:
    """Computed values that the image does not reach but that nodes it reaches, or outputs, read."""
    reached = reached_values(graph, [image])
    made_by = producers(graph)
    readers = [node for node in graph.node if reached.intersection(node.output)]
    read = set().union(*(reads(node) for node in readers), (value.name for value in graph.output))
    return sorted(name for name in read - reached if name in made_by)


def _same(first: NDArray[Any], second: NDArray[Any]) -> bool:
    return first.shape == second.shape and first.tobytes() == second.tobytes()


def write_reshapes(model: onnx.ModelProto, setting: Setting) -> None:
    """Rule 5: the target of each `Reshape` becomes a list of numbers, with -1 where the batch is."""
    graph = model.graph
    reached = reached_values(graph, [setting.signature.input_name])
    known = constants(graph)
    varying = []
    for node in graph.node:
        if node.op_type != "Reshape" or len(node.input) < 2 or node.output[0] not in reached - {node.input[1]}:
            continue
        if node.input[1] in known and numpy_helper.to_array(known[node.input[1]]).all():
            del node.attribute[:]  # without a 0 in the target, `allowzero` says nothing
        elif node.input[1] not in reached:
            varying.append(node)
    if varying:
        _write_targets(model, varying, setting)


def _write_targets(model: onnx.ModelProto, reshapes: Sequence[onnx.NodeProto], setting: Setting) -> None:
    runs = probe(model, [node.output[0] for node in reshapes], setting.feeds())
    for node in reshapes:
        target = _target([run[node.output[0]].shape for run in runs])
        if target is not None:
            name = f"{node.output[0]}{OWN}target"
            model.graph.initializer.append(numpy_helper.from_array(np.array(target, np.int64), name))
            node.input[1] = name
            del node.attribute[:]
    drop_unused(model.graph)


def _target(shapes: Sequence[tuple[int, ...]]) -> list[int] | None:
    """One target for all the shapes seen: equal sizes as they are, the one that varies as -1; None if several do."""
    varying = [axis for axis, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1]
    if len(varying) > 1 or 0 in shapes[0]:
        return None
    return [-1 if axis in varying else size for axis, size in enumerate(shapes[0])]
