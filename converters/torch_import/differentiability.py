"""Whether a gradient reaches the image, and whether it is the model's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import onnx
import torch
from onnx import TensorProto
from torch import Tensor

from backscan.converters.errors import NoNetworkError, NotDifferentiableError
from backscan.converters.graph import SHAPE_OPERATORS, reached_values
from backscan.converters.operators import straight_through
from backscan.converters.signature.signature import ModelSignature

_WITHOUT_GRADIENT = frozenset(
    {"ArgMax", "ArgMin", "Binarizer", "LabelEncoder", "NonZero", "OneHot", "TfIdfVectorizer", "Unique"}
)
"""Operators past which the image is a choice among cases: no surrogate makes sense."""
_TREES = "a tree ensemble has no gradient"
_VECTORS = "a support vector machine is not imported, so it has no gradient here"
_NO_NETWORKS: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"), _TREES)
    | dict.fromkeys(("SVMClassifier", "SVMRegressor"), _VECTORS)
)
"""Operators that are a model of their own, and why no pattern is searched through them."""

_WHOLE = frozenset({TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64}) | frozenset(
    {TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64}
)
_MOST_NAMED = 4

_SURROGATES = tuple(
    value.__name__
    for value in vars(straight_through).values()
    if isinstance(value, type) and issubclass(value, torch.autograd.Function)
)


def require_gradient_path(graph: onnx.GraphProto, signature: ModelSignature) -> None:
    """Refuse a model in which every path from the image to the output passes an operator without any gradient.

    Args:
        graph: A graph in topological order.
        signature: Its signature.

    Raises:
        NoNetworkError: the image passes trees or support vectors.
        NotDifferentiableError: there is no path that a gradient could take.
    """
    seen = reached_values(graph, [signature.input_name])
    for node in graph.node:
        if node.op_type in _NO_NETWORKS and not seen.isdisjoint(node.input):
            raise NoNetworkError(
                f"{_NO_NETWORKS[node.op_type]}, so no class pair was searched for a pattern: {node.op_type} decides at "
                f"node {(node.name or node.output[0])[:80]!a}"
            )
    reached = reached_values(graph, [signature.input_name], stopped_by=SHAPE_OPERATORS | _WITHOUT_GRADIENT)
    if signature.output_name not in reached:
        found = sorted({node.op_type for node in graph.node} & _WITHOUT_GRADIENT)
        raise NotDifferentiableError(
            f"no gradient reaches the image: every path to the output passes {', '.join(found) or 'a constant'}; only "
            "differentiable classifiers can be scanned"
        )


def whole_numbers(graph: onnx.GraphProto, signature: ModelSignature) -> tuple[str, ...]:
    """Nodes that turn what depends on the image into whole numbers, by name, at most 4."""
    reached = reached_values(graph, [signature.input_name])
    casts = (node for node in graph.node if node.op_type == "Cast" and node.input[0] in reached)
    whole = (node for node in casts if any(a.name == "to" and a.i in _WHOLE for a in node.attribute))
    return tuple(ascii(node.name[:80]) for node in whole)[:_MOST_NAMED]


def passes_surrogates(scores: Tensor, steps: Sequence[str] = ()) -> bool:
    """Whether the gradient of scores passes steps whose own gradient is zero, such as a sign or a rounding.

    Args:
        scores: Output of a network, with the graph of its gradient.
        steps: Nodes that are named where there is none.

    Raises:
        NotDifferentiableError: the scores have no gradient at all.
    """
    if scores.grad_fn is None:
        raise NotDifferentiableError(
            "no gradient reaches the image: every path to the output passes a step that has none, such as a comparison "
            "of classes"
            + (f" or the cast to whole numbers in node {', '.join(steps)}" if steps else "")
            + "; only differentiable classifiers can be scanned"
        )
    seen, waiting = {scores.grad_fn}, [scores.grad_fn]
    while waiting:
        function = waiting.pop()
        if type(function).__name__.removeprefix("Vmapped").startswith(_SURROGATES):
            return True
        following = {earlier for earlier, _ in function.next_functions if earlier is not None} - seen
        seen |= following
        waiting.extend(following)
    return False
