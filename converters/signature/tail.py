"""The squashing function that ends a classifier, and how to take it off so that logits come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from backscan.converters.graph import attributes, constant_tensor, constants, dimensions, operators, producers

_FOR_PROBABILITIES = operators("DequantizeLinear Normalizer QuantizeLinear")
"""Operators that leave probabilities as they are, but not logits."""
MOVES_SCORES = frozenset(
    {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "ZipMap"}
)
"""Operators that hand numbers on as they are."""
_KEEPS_AXES = frozenset({"Cast", "Dropout", "Identity"})
"""Those of them that keep every axis where it is."""
_TABLE = 2
"""Axes of a table of images and classes."""
_OF_CLASSES = frozenset({1, -1})
"""How the axis of the classes of a table is called. The softmax of some columns is those of the softmax, rescaled."""
_NEGLIGIBLE = 1e-4
"""How far bounds and additions may move a probability to count as protection against 0 and 1."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The squashing function that ends a graph."""

    operator: str
    """Its name: "Softmax", "LogSoftmax" or "Sigmoid"."""
    node: onnx.NodeProto
    """The node that gives the squashed scores."""
    source: str
    """Value that is squashed."""
    after: tuple[onnx.NodeProto, ...]
    """Nodes between it and the output that leave probabilities as they are, but not logits."""
    scaled: tuple[tuple[onnx.NodeProto, str], ...] = ()
    """Nodes between it and the output that multiply or divide by a positive constant, and the value that they scale."""
    is_partial: bool = False
    """Whether what comes out are multiples of some of the probabilities, which need not add up to 1."""


def find_tail(graph: onnx.GraphProto, output: str) -> Tail | None:
    """The Softmax, LogSoftmax or Sigmoid that ends the graph, looking through nodes that only move numbers.

    Args:
        graph: The graph.
        output: Name of an output.

    Returns:
        The tail, None if the graph ends otherwise.
    """
    return _Walk(graph).tail(output)


class _Walk:
    """The way from an output back to what squashes its scores."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._made_by = producers(graph)
        self._stored = constants(graph)
        self._ranks = {value.name: len(sizes) for value in graph.output if (sizes := dimensions(value)) is not None}

    def tail(self, output: str) -> Tail | None:
        """What ends the graph at an output."""
        after, scaled, takes_some = list[onnx.NodeProto](), list[tuple[onnx.NodeProto, str]](), False
        takes_one = False
        name = output
        # Which axis is that of the classes is only known while each value is as the output is: images, then classes.
        is_table = self._ranks.get(output, _TABLE) == _TABLE
        while (node := self._made_by.get(name)) is not None:
            name = str(node.input[0]) if node.input else ""
            if node.op_type in _FOR_PROBABILITIES or self._protects(node):
                after.append(node)
            elif node.op_type in {"Mul", "Div"} and (scales := self._scaled(node)):
                scaled.append((node, scales))
                name = scales
            elif is_table and self._takes_classes(node):
                takes_some = True
            elif is_table and self._takes_a_label(node):
                takes_one = True
            elif node.op_type not in MOVES_SCORES:
                break
            else:
                is_table = is_table and node.op_type in _KEEPS_AXES
        if node is None:
            return None
        operator, source = self._squashed(node)
        if not operator or (operator != "Softmax" and scaled):
            return None  # a multiple of a sigmoid is no sigmoid
        if (takes_some and operator == "LogSoftmax") or (takes_one and operator != "Sigmoid"):
            return None
        if (takes_some or takes_one) and not is_table:
            return None  # what was taken may be places rather than classes
        partial = bool(scaled or takes_some) and _over_classes(node)
        return Tail(operator, node, source, tuple(after), tuple(scaled), partial and operator == "Softmax")

    def _takes_classes(self, node: onnx.NodeProto) -> bool:
        """Whether the node takes some columns of a table of images and classes."""
        given, others = attributes(node), [self.constant(name) if name else None for name in node.input[1:]]
        match node.op_type:
            case "Gather":
                places = others[0]
                return given.get("axis", 0) in _OF_CLASSES and places is not None and places.ndim == 1 < places.size
            case "Split":
                return given.get("axis", 0) in _OF_CLASSES
            case "Slice":
                axes = given.get("axes", others[2] if len(others) > 2 else None)
                return axes is not None and {int(axis) for axis in axes} <= _OF_CLASSES
        return False

    def _takes_a_label(self, node: onnx.NodeProto) -> bool:
        """Whether the node takes one column of a table of images and labels: one sigmoid is a sigmoid still."""
        if node.op_type != "Gather" or attributes(node).get("axis", 0) not in _OF_CLASSES:
            return False
        place = self.constant(node.input[1])
        return place is not None and place.shape == (1,)

    def _squashed(self, node: onnx.NodeProto) -> tuple[str, str]:
        """Name of the squashing function and the value that is squashed; empty if the node is none."""
        operator = node.op_type.removeprefix("QLinear")  # onnxruntime's own, on quantised scores
        if operator == "LinearClassifier":
            transform = attributes(node).get("post_transform", b"")
            operator = {b"SOFTMAX": "Softmax", b"LOGISTIC": "Sigmoid"}.get(transform, "")
        if operator in {"Softmax", "LogSoftmax", "Sigmoid"}:
            return operator, str(node.input[0])
        source = _spelled_out_softmax(node, self._made_by)
        return ("", "") if source is None else ("Softmax", source)

    def constant(self, name: str) -> NDArray[Any] | None:
        """What a constant of the graph holds; None if it is none, holds nothing, or lies outside the file."""
        tensor = self._stored.get(name)
        maker = self._made_by.get(name)
        if tensor is None and maker is not None and maker.op_type == "Constant":
            tensor = constant_tensor(maker)
        if tensor is None or 0 in tensor.dims or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        return numpy_helper.to_array(tensor)

    def _protects(self, node: onnx.NodeProto) -> bool:
        """Whether the node only keeps probabilities away from 0 or 1."""
        given = attributes(node)
        if node.op_type == "Clip":
            bounds = [given.get("min"), given.get("max")]
            for index, name in enumerate(node.input[1:]):
                bounds[index] = self.constant(name) if name else None
                if name and bounds[index] is None:
                    return False
            low, high = (None if bound is None else float(np.max(bound)) for bound in bounds)
            return (low is None or low <= _NEGLIGIBLE) and (high is None or high >= 1 - _NEGLIGIBLE)
        others = [self.constant(name) for name in node.input[1:]]
        if len(others) != 1 or others[0] is None or not np.issubdtype(others[0].dtype, np.floating):
            return False
        least, most = float(others[0].min()), float(others[0].max())
        judged: dict[str, bool] = {"Max": most <= _NEGLIGIBLE, "Min": least >= 1 - _NEGLIGIBLE}
        judged |= dict.fromkeys(("Add", "Sub"), max(abs(least), abs(most)) <= _NEGLIGIBLE)
        return bool(judged.get(node.op_type, False))

    def _scaled(self, node: onnx.NodeProto) -> str:
        """Value that the node multiplies or divides by a positive constant; empty if it does otherwise."""
        first, second = (str(name) for name in node.input)
        factor, value = self.constant(second), first
        if factor is None and node.op_type == "Mul":
            factor, value = self.constant(first), second
        positive = factor is not None and np.issubdtype(factor.dtype, np.floating) and bool((factor > 0).all())
        return value if positive else ""


def _over_classes(softmax: onnx.NodeProto) -> bool:
    """Whether a softmax normalises along another axis than that of the images."""
    return bool(attributes(softmax).get("axis", -1) != 0)


def _spelled_out_softmax(node: onnx.NodeProto, made_by: Mapping[str, onnx.NodeProto]) -> str | None:
    """The input of a softmax written as `exp(x) / sum(exp(x))`, as jax2onnx and older exporters write it."""
    parts = [made_by.get(name) for name in node.input] if node.op_type == "Div" else []
    if len(parts) != 2 or parts[0] is None or parts[1] is None:
        return None
    is_softmax = parts[0].op_type == "Exp" and parts[1].op_type == "ReduceSum" and parts[1].input[0] == node.input[0]
    return str(parts[0].input[0]) if is_softmax else None


def remove_tail(graph: onnx.GraphProto, tail: Tail) -> None:
    """Let the squashing node, and what follows for probabilities only, hand on their input: logits come out.

    A factor on probabilities becomes the addition of its logarithm to the logits.

    Args:
        graph: The graph with the tail.
        tail: What `find_tail` gave for it.
    """
    walk = _Walk(graph)
    for node, value in tail.scaled:
        (factor,) = (walk.constant(name) for name in node.input if name != value)
        name = f"{node.output[0]}.log_factor"
        graph.initializer.append(numpy_helper.from_array(np.log(np.asarray(factor)), name))
        operator = "Add" if node.op_type == "Mul" else "Sub"
        node.CopyFrom(helper.make_node(operator, [value, name], [node.output[0]], name=node.name))
    node = tail.node
    if node.op_type == "LinearClassifier":
        (transform,) = (attribute for attribute in node.attribute if attribute.name == "post_transform")
        transform.s = b"NONE"
    elif node.op_type.startswith("QLinear"):
        node.CopyFrom(helper.make_node("DequantizeLinear", node.input[:3], [node.output[0]], name=node.name))
    else:
        node.CopyFrom(helper.make_node("Identity", [tail.source], [node.output[0]], name=node.name))
    for later in tail.after:
        later.CopyFrom(helper.make_node("Identity", [later.input[0]], [later.output[0]], name=later.name))
