"""The output end of a classifier: which output it is, what its numbers are, and where its last softmax sits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from backscan.converters.errors import OutputNameError, SignatureError
from backscan.converters.graph import needed_nodes, operators, producers
from backscan.converters.session import Arrays
from backscan.converters.signature.tail import MOVES_SCORES, find_tail

_CHOOSES = frozenset({"ArgMax", "ArgMin", "TopK", "TreeEnsemble", "TreeEnsembleClassifier"})
"""Operators that give the class instead of scores."""
_GIVES_LOGITS = operators("BatchNormalization Conv Gemm InstanceNormalization LeakyRelu Relu")
"""Operators whose numbers are no probabilities, even if those of some images add up to 1."""
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


def images_apart(forms: Mapping[str, OutputForm], runs: Sequence[Arrays]) -> dict[str, OutputForm]:
    """The outputs whose first axis counts images, where an input of [3, H, W], say, may be one image of three colours.

    An output of three numbers may then be one for each of three images or for each of three classes. The graph tells:
    it keeps images apart, so that only the number of the image that was changed changes.

    Args:
        forms: What `output_forms` gave for the runs.
        runs: Outputs, at a fixed batch twice with the first image changed.
    """
    return {name: form for name, form in forms.items() if form.num_scores > 1 or _apart(form, runs, name)}


def _apart(form: OutputForm, runs: Sequence[Arrays], name: str) -> bool:
    first, second = (score_rows(run[name], form.batch_axis, 1) for run in (runs[0], runs[-1]))
    return len(first) != len(second) or bool((first[1:] == second[1:]).all())


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
    last = last_vectors(graph, forms)
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


def last_vectors(graph: onnx.GraphProto, forms: Mapping[str, OutputForm]) -> list[str]:
    """The values that may classify and that no other of them is computed from."""
    vectors = [name for name, form in forms.items() if form.num_scores > 1] or list(forms)
    return [name for name in vectors if not _leads_to_another(name, vectors, graph)]


def _leads_to_another(name: str, vectors: Sequence[str], graph: onnx.GraphProto) -> bool:
    """Whether another output is computed from this one, or from the value that this one merely hands on."""
    source = moved_from(name, graph)
    others = {moved_from(other, graph) for other in vectors} - {source}
    return any({name, source} & set(node.input) for node in needed_nodes(graph, others))


def leads_to(name: str, output: str, graph: onnx.GraphProto) -> bool:
    """Whether an output is computed from another one, or from the value that it merely hands on, or is the same value.

    Args:
        name: The one that may come first.
        output: The one that may follow from it.
        graph: The graph in topological order.
    """
    return moved_from(name, graph) == moved_from(output, graph) or _leads_to_another(name, [output], graph)


def moved_from(name: str, graph: onnx.GraphProto) -> str:
    """The value that a value merely hands on."""
    made_by = producers(graph)
    while name in made_by and made_by[name].op_type in MOVES_SCORES:
        name = made_by[name].input[0]
    return name


def _quoted(names: Sequence[str] | Mapping[str, object]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def output_kind(graph: onnx.GraphProto, output: str, rows: NDArray[Any]) -> str:
    """What the scores are: by the operator that makes them, and by their values where that leaves it open.

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
    if operator == "Sigmoid":
        return "sigmoids" if scores.min() >= 0 and scores.max() <= 1 else "logits"
    if scores.shape[1] == 1 or _made_by(graph, output) in _GIVES_LOGITS:
        return "logits"
    if scores.min() >= -1e-6 and np.allclose(scores.sum(axis=1), 1, atol=_SUM_TOLERANCE):
        return "probabilities"
    if scores.max() <= 1e-3 and np.allclose(np.exp(scores).sum(axis=1), 1, atol=_SUM_TOLERANCE):
        return "log_probabilities"
    return "probabilities" if tail is not None and tail.is_partial else "logits"


def _made_by(graph: onnx.GraphProto, output: str) -> str:
    made_by = producers(graph)
    source = moved_from(output, graph)
    return str(made_by[source].op_type) if source in made_by else ""
