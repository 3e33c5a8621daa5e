"""The last linear layer of a classifier: what weighs the features of an image into one score a class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from backscan.converters.errors import border
from backscan.converters.graph import attributes, constants, producers, sort_nodes
from backscan.converters.intake.artifact import Artifact, parse
from backscan.converters.rewrites import normalise
from backscan.converters.signature.signature import ModelSignature
from backscan.converters.torch_import.half import widen
from backscan.converters.torch_import.importer import expose_logits, fix_input_size

_SAME_ORDER = frozenset(
    {"Cast", "Flatten", "GlobalAveragePool", "Identity", "LogSoftmax", "ReduceMean", "Reshape", "Sigmoid", "Softmax"}
    | {"Squeeze", "Unsqueeze"}
)
"""Operators behind the layer that change its scores of one image alike, or only how they lie."""
_BESIDE_A_CONSTANT = frozenset({"Add", "Div", "Mul", "Sub"})
_NOT_NEGATIVE = frozenset(
    {"Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Softplus", "Sqrt", "ThresholdedRelu"}
)
_KEEPS_SIGN = frozenset(
    {"AveragePool", "Cast", "Dropout", "Flatten", "Gather", "GlobalAveragePool", "GlobalMaxPool", "Identity", "MaxPool"}
    | {"ReduceMax", "ReduceMean", "ReduceSum", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators whose output has no negative numbers where their first input has none."""
_KEEPS_SIGNS = frozenset({"Add", "Concat", "Max", "Mul", "Sum"})
"""The same of all inputs."""


@dataclass(frozen=True, slots=True)
class LastLayer:
    """The linear layer that gives the scores."""

    weights: NDArray[np.float64]
    """What each feature adds to the score of each class, [K, d]."""
    is_fed_positive: bool
    """Whether what it takes can be shown to have no negative numbers, as behind a ReLU."""


@border("reading the last layer")
def last_layer(artifact: Artifact, signature: ModelSignature) -> LastLayer | None:
    """The layer whose scores are the output, but for a softmax, a bias or a scale; None where it is no linear one.

    Args:
        artifact: The model, external data included.
        signature: Its signature.

    Raises:
        ArtifactError: the model cannot be parsed.
        EngineError: onnxruntime cannot compute its constants.
    """
    model = parse(artifact)
    sort_nodes(model.graph)
    expose_logits(model.graph, signature)
    if signature.precision == "half":
        signature = widen(model, signature)
    fix_input_size(model, signature)
    graph = normalise(model, signature, in_place=True).graph
    made_by, known = producers(graph), constants(graph)
    name = signature.output_name
    while name in made_by:
        node = made_by[name]
        found = _weights(node, known)
        if found is not None:
            fits = found.shape[0] == signature.num_scores
            return LastLayer(found, _is_positive(node.input[0], made_by, known)) if fits else None
        following = _before(node, known)
        if following is None:
            return None
        name = following
    return None


def _before(node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto]) -> str | None:
    """The value that an operator behind the layer takes the scores from; None if it may change their order."""
    if node.op_type in _SAME_ORDER:
        return str(node.input[0])
    if node.op_type not in _BESIDE_A_CONSTANT:
        return None
    varying = [name for name in node.input if name not in known]
    fixed = [_array(known[name]) for name in node.input if name in known]
    if len(varying) != 1 or (node.op_type in {"Div", "Sub"} and node.input[0] in known):
        return None
    scales = node.op_type in {"Div", "Mul"} and not (fixed[0].size == 1 and float(fixed[0].reshape(())) > 0.0)
    return None if scales else str(varying[0])


def _weights(node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto]) -> NDArray[np.float64] | None:
    """The weights [K, d] of a linear layer whose weights are constants."""
    if node.op_type not in {"Conv", "Gemm", "MatMul"} or len(node.input) < 2 or node.input[1] not in known:
        return None
    given, options = _array(known[node.input[1]]).astype(np.float64), attributes(node)
    if node.op_type == "Conv":
        return given.reshape(len(given), -1) if options.get("group", 1) == 1 else None
    if given.ndim != 2 or options.get("transA", 0):
        return None
    scaled = given * float(options.get("alpha", 1.0))
    return scaled if node.op_type == "Gemm" and options.get("transB", 0) else np.ascontiguousarray(scaled.T)


def _is_positive(name: str, made_by: Mapping[str, onnx.NodeProto], known: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether a value can be shown to have no negative numbers."""
    waiting = [name]
    seen = set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in known:
            if (_array(known[name]) < 0).any():
                return False
            continue
        node = made_by.get(name)
        if node is None:
            return False
        if node.op_type in _NOT_NEGATIVE or _clips_at_zero(node, known):
            continue
        if node.op_type in _KEEPS_SIGN:
            waiting.append(node.input[0])
        elif node.op_type in _KEEPS_SIGNS:
            waiting.extend(node.input)
        else:
            return False
    return True


def _clips_at_zero(node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto]) -> bool:
    if node.op_type != "Clip":
        return False
    bound: Any = attributes(node).get("min")
    if len(node.input) > 1 and node.input[1] in known:
        bound = float(_array(known[node.input[1]]).reshape(-1)[0])
    return bound is not None and float(bound) >= 0.0


def _array(tensor: onnx.TensorProto) -> NDArray[Any]:
    return np.asarray(numpy_helper.to_array(tensor))
