"""The output end of a classifier: which output it is, what its numbers are, and where its last softmax sits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from backscan.converters.errors import OutputNameError, SignatureError
from backscan.converters.graph import attributes, needed_nodes, producers
from backscan.converters.session import Arrays

_FOR_PROBABILITIES = frozenset({"DequantizeLinear", "Normalizer", "QuantizeLinear"})
"""Operators that leave probabilities as they are, but not logits."""
MOVES_SCORES = frozenset(
    {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "ZipMap"}
)
"""Operators that hand numbers on as they are."""
_CHOOSES = frozenset({"ArgMax", "ArgMin", "TopK", "TreeEnsemble", "TreeEnsembleClassifier"})
"""Operators that give the class instead of scores."""
_SUM_TOLERANCE = 0.02  # of a row of probabilities; wide enough for 8-bit outputs, far from what logits give


@dataclass(frozen=True, slots=True)
class OutputForm:
    """How an output that may classify is laid out."""

    batch_axis: int
    """Axis that counts images."""
    num_scores: int
    """Numbers for an image."""


def output_forms(runs: Sequence[Arrays], batch: int | None) -> dict[str, OutputForm]:
    """The outputs that give one vector of floating-point scores for an image.

    Args:
        runs: Outputs at batch 2 and 3 if the batch is free, else twice at the fixed batch, the first image changed.
        batch: The fixed batch, None if free.

    Returns:
        Output name -> form; outputs of another kind (labels, maps) are left out.
    """
    forms = {}
    for name, first in runs[0].items():
        if not np.issubdtype(np.asarray(first).dtype, np.floating):
            continue
        axis = _batch_axis(first, runs[-1][name], batch)
        if axis is None:
            continue
        rest = [size for index, size in enumerate(first.shape) if index != axis or batch == 1]
        if 0 not in rest and sum(size > 1 for size in rest) <= 1:
            forms[name] = OutputForm(axis, int(np.prod(rest)))
    return forms


def _batch_axis(first: NDArray[Any], second: NDArray[Any], batch: int | None) -> int | None:
    if batch is None:
        sizes = zip(first.shape, second.shape, strict=False)
        changed = [axis for axis, (a, b) in enumerate(sizes) if a != b]
        return changed[0] if len(changed) == 1 and first.ndim == second.ndim else None
    if batch == 1:
        return 0
    fitting = [axis for axis, size in enumerate(first.shape) if size == batch]
    if len(fitting) > 1:  # as many classes as images: the image that was changed tells
        differs = first != second
        fitting = [axis for axis in fitting if not np.delete(differs, 0, axis).any()] or fitting
    return fitting[0] if fitting else None


def score_rows(output: NDArray[Any], batch_axis: int, num_scores: int) -> NDArray[Any]:
    """An output as one row of scores for an image, [N, num_scores], unit axes dropped."""
    return np.moveaxis(output, batch_axis, 0).reshape(-1, num_scores)


def choose_output(
    graph: onnx.GraphProto, forms: Mapping[str, OutputForm], outputs: Sequence[str], wanted: str | None
) -> str:
    """The output that classifies: the one asked for, else the only one, else the one that others lead to.

    Args:
        graph: The graph in topological order.
        forms: The outputs that may classify.
        outputs: All outputs.
        wanted: Name given by the user, None if none.

    Returns:
        An output name.

    Raises:
        SignatureError: no output classifies, or several do.
        OutputNameError: the one asked for does not.
    """
    if wanted is not None:
        if wanted not in forms:
            reason = "gives no vector of scores for an image" if wanted in outputs else "is no output of the model"
            raise OutputNameError(f"'{wanted}' {reason}: pass --output-name with one of {_quoted(forms or outputs)}")
        return wanted
    vectors = [name for name, form in forms.items() if form.num_scores > 1] or list(forms)
    last = [name for name in vectors if not _leads_to_another(name, vectors, graph)]
    if not last:
        made_by = producers(graph)
        choices = [made_by[name].op_type for name in outputs if name in made_by and made_by[name].op_type in _CHOOSES]
        labels = f" ({', '.join(sorted(set(choices)))} gives labels, which have no gradient)" if choices else ""
        raise SignatureError(
            f"expected an output with one score for each class, found {_quoted(outputs)}{labels}: this is no "
            "classifier, or its class scores are no output; export the model with its logits as an output"
        )
    if len({forms[name].num_scores for name in last}) > 1:
        raise SignatureError(f"several outputs may classify ({_quoted(last)}): pass --output-name with one of them")
    return last[0]


def _leads_to_another(name: str, vectors: Sequence[str], graph: onnx.GraphProto) -> bool:
    """Whether another output is computed from this one, or from the value that this one merely hands on."""
    source = _moved_from(name, graph)
    others = {_moved_from(other, graph) for other in vectors} - {source}
    return any({name, source} & set(node.input) for node in needed_nodes(graph, others))


def _moved_from(name: str, graph: onnx.GraphProto) -> str:
    made_by = producers(graph)
    while name in made_by and made_by[name].op_type in MOVES_SCORES:
        name = made_by[name].input[0]
    return name


def _quoted(names: Sequence[str] | Mapping[str, object]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def output_kind(graph: onnx.GraphProto, output: str, rows: NDArray[Any]) -> str:
    """What the scores are, judged by their values and by the operator that makes them.

    Args:
        graph: The graph.
        output: The classifying output.
        rows: Its scores on noise images, [N, K].

    Returns:
        "logits", "probabilities", "log_probabilities" or "sigmoids".
    """
    scores = rows.astype(np.float64)
    tail = find_tail(graph, output)
    operator = "" if tail is None else tail.operator
    if scores.shape[1] > 1:
        if scores.min() >= -1e-6 and np.allclose(scores.sum(axis=1), 1, atol=_SUM_TOLERANCE) and operator != "Sigmoid":
            return "probabilities"
        if scores.max() <= 1e-3 and np.allclose(np.exp(scores).sum(axis=1), 1, atol=_SUM_TOLERANCE):
            return "log_probabilities"
    return "sigmoids" if operator == "Sigmoid" and scores.min() >= 0 and scores.max() <= 1 else "logits"


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


def find_tail(graph: onnx.GraphProto, output: str) -> Tail | None:
    """The Softmax, LogSoftmax or Sigmoid that ends the graph, looking through nodes that only move numbers.

    Args:
        graph: The graph.
        output: Name of an output.

    Returns:
        The tail, None if the graph ends otherwise.
    """
    made_by = producers(graph)
    node, after = made_by.get(output), list[onnx.NodeProto]()
    while node is not None and node.op_type in MOVES_SCORES | _FOR_PROBABILITIES:
        if node.op_type in _FOR_PROBABILITIES:
            after.append(node)
        node = made_by.get(node.input[0])
    if node is None:
        return None
    operator = node.op_type.removeprefix("QLinear")  # onnxruntime's own, on quantised scores
    if operator == "LinearClassifier":
        operator = {b"SOFTMAX": "Softmax", b"LOGISTIC": "Sigmoid"}.get(attributes(node).get("post_transform", b""), "")
    if operator in {"Softmax", "LogSoftmax", "Sigmoid"}:
        return Tail(operator, node, node.input[0], tuple(after))
    source = _spelled_out_softmax(node, made_by)
    return None if source is None else Tail("Softmax", node, source, tuple(after))


def _spelled_out_softmax(node: onnx.NodeProto, made_by: Mapping[str, onnx.NodeProto]) -> str | None:
    """The input of a softmax written as `exp(x) / sum(exp(x))`, as jax2onnx and older exporters write it."""
    parts = [made_by.get(name) for name in node.input] if node.op_type == "Div" else []
    if len(parts) != 2 or parts[0] is None or parts[1] is None:
        return None
    is_softmax = parts[0].op_type == "Exp" and parts[1].op_type == "ReduceSum" and parts[1].input[0] == node.input[0]
    return str(parts[0].input[0]) if is_softmax else None


def remove_tail(tail: Tail) -> None:
    """Let the squashing node, and what follows for probabilities only, hand on their input: logits come out."""
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
