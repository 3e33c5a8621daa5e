"""For the copy alone: branches between which the image chooses are both computed, and one of them is taken.

The original file keeps its `If`, so that a switch there is named as it is. The copy gets a gradient through whichever
branch is taken, as through any other choice.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from backscan.converters.graph import attributes, opset, set_nodes, subgraphs
from backscan.converters.intake.node_names import OWN
from backscan.converters.rewrites.control import first_output, inlined, stored

_OLDEST_OPSET = 9
"""Opset from which there is Where."""


def merge_branches(model: onnx.ModelProto, inferred: onnx.GraphProto) -> bool:
    """Replace every `If` whose branches give tensors of one known shape by both branches and a choice.

    Where the shapes may differ, a choice would make them equal without a word, so that such an `If` stays.

    Args:
        model: A model in plain form.
        inferred: Its nodes with what is known of shapes, found after `forget_branch_shapes`.

    Returns:
        Whether anything was replaced.
    """
    nodes, changed = list[onnx.NodeProto](), False
    for node, known in zip(model.graph.node, inferred.node, strict=True):
        merge = node.op_type == "If" and opset(model) >= _OLDEST_OPSET and _are_alike(known)
        nodes += _both(model.graph, node) if merge else [node]
        changed |= merge
    if changed:
        set_nodes(model.graph, nodes)
    return changed


def forget_branch_shapes(graph: onnx.GraphProto) -> None:
    """Take away what branches say of the shapes of their results, so that only what follows from the nodes counts."""
    for node in graph.node:
        for inner in subgraphs(node):
            del inner.value_info[:]
            for value in (given for given in inner.output if given.type.HasField("tensor_type")):
                value.type.tensor_type.ClearField("shape")
            forget_branch_shapes(inner)


def _are_alike(node: onnx.NodeProto) -> bool:
    """Whether both branches give tensors of the same known shapes."""
    taken, other = ([value.type for value in graph.output] for graph in subgraphs(node))
    return taken == other and all(map(_is_known, taken))


def _is_known(kind: onnx.TypeProto) -> bool:
    named = (dim.HasField("dim_value") or dim.HasField("dim_param") for dim in kind.tensor_type.shape.dim)
    return kind.tensor_type.HasField("shape") and all(named)


def _both(graph: onnx.GraphProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes of both branches, and one that chooses for each result."""
    own = f"{first_output(node)}{OWN}"
    branches = [
        inlined(graph, attributes(node)[name], {}, f"{own}{name}{OWN}") for name in ("then_branch", "else_branch")
    ]
    condition = f"{own}condition"
    shape = stored(graph, f"{own}no_axes", np.array([], np.int64))
    alone = helper.make_node("Reshape", [node.input[0], shape], [condition], name=f"{node.name}.condition")
    taken, other = (results for _, results in branches)
    choices = [
        helper.make_node("Where", [condition, yes, no], [name], name=f"{node.name}.choice_{index}")
        for index, (yes, no, name) in enumerate(zip(taken, other, node.output, strict=True))
        if name
    ]
    return [*(inner for nodes, _ in branches for inner in nodes), alone, *choices]
