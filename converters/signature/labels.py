"""Outputs that show a class number: whether it is the largest of the scores, and scores for one that is more.

The class number is what users read. Where it is made of the scores by the choice of the largest alone, what is said of
the scores holds for it; where something else of the image comes in between, a switch may sit there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto, helper, inliner, numpy_helper

from backscan.converters.errors import ConverterError
from backscan.converters.graph import attributes, opset, producers, reached_values, sort_nodes
from backscan.converters.intake.artifact import Artifact, parse
from backscan.converters.session import noise, open_session, run_session
from backscan.converters.signature.choosers import LABEL_TYPES, choices
from backscan.converters.signature.output import leads_to, moved_from
from backscan.converters.signature.signature import ModelSignature
from backscan.converters.signature.tail import find_tail

_TEXT = TensorProto.STRING
_TEXTS = "ai.onnx.ml"
"""Domain of the operator that numbers texts."""
_MOST_TEXTS = 100_000
_OLDEST_OPSET = 9
"""Opset from which there is OneHot."""


@dataclass(frozen=True, slots=True)
class LabelHead:
    """A class number that the image decides beside the scores, as scores of a copy of the file."""

    name: str
    """Output of the file."""
    artifact: Artifact
    """The file with one more output: 1 for the class that is shown, 0 for others; the last one stands for no class."""
    signature: ModelSignature
    """The signature of that output."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What is to be said of the outputs that show a class number."""

    heads: tuple[LabelHead, ...] = ()
    """Those to be searched for switches."""
    notes: tuple[str, ...] = ()
    """What is not searched, one sentence each."""


def read_labels(artifact: Artifact, signature: ModelSignature) -> Labels:
    """Look at the outputs beside the chosen one that show a class number.

    Args:
        artifact: The model as its signature reads it, external data included.
        signature: Its signature.
    """
    graph = _graph(artifact)
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.output}
    labels = [name for name in signature.other_outputs if kinds.get(name) in LABEL_TYPES]
    heads, notes = list[LabelHead](), list[str]()
    for name in labels:
        if _is_largest(graph, name, signature):
            continue
        if _of_scores_alone(graph, name, signature):
            notes.append(_said(name, graph, "what it shows is seen through the scores alone"))
            continue
        texts = _texts(graph, signature.num_classes) if kinds[name] == _TEXT else ()
        head = _head(artifact, name, signature, texts) if texts or kinds[name] != _TEXT else None
        if head is None:
            notes.append(_said(name, graph, "it could not be searched for switches"))
        else:
            heads.append(head)
    return Labels(tuple(heads), tuple(notes))


def _graph(artifact: Artifact) -> onnx.GraphProto:
    model = parse(artifact, fold_external=False)
    if model.functions:
        model = inliner.inline_local_functions(model)
    sort_nodes(model.graph)
    return model.graph


def _said(name: str, graph: onnx.GraphProto, what: str) -> str:
    node = producers(graph)[moved_from(name, graph)]
    return (
        f"the class number {name[:80]!a}, which node {(node.name or node.output[0])[:80]!a} ({node.op_type}) "
        f"makes of more than the choice of the largest score: {what}"
    )


def _is_largest(graph: onnx.GraphProto, name: str, signature: ModelSignature) -> bool:
    """Whether an output shows the place of the largest score, or a constant."""
    chosen = signature.output_name
    source = moved_from(name, graph)
    node = producers(graph).get(source)
    if node is None or name not in reached_values(graph, [signature.input_name]):
        return True
    if any(leads_to(other, chosen, graph) for other in node.output if other not in {"", source}):
        return True  # one node gives the number and its scores, as those of ai.onnx.ml do
    behind = choices(graph, signature.input_name).get(name, ())[:1]
    return any(leads_to(choice.source, chosen, graph) or _squashes(graph, choice.source, chosen) for choice in behind)


def _squashes(graph: onnx.GraphProto, name: str, chosen: str) -> bool:
    """Whether a value is the softmax or sigmoid of the scores."""
    tail = find_tail(graph, name)
    return tail is not None and moved_from(tail.source, graph) == moved_from(chosen, graph)


def _of_scores_alone(graph: onnx.GraphProto, name: str, signature: ModelSignature) -> bool:
    """Whether all that an output shows of the image has passed the scores, as with a threshold on the largest."""
    tail = find_tail(graph, signature.output_name)
    ends = [signature.output_name, *([tail.source] if tail else [])]
    passed = {*ends, *(moved_from(end, graph) for end in ends)}
    rest = onnx.GraphProto()
    rest.node.extend(node for node in graph.node if passed.isdisjoint(node.output))
    return name not in reached_values(rest, [signature.input_name])


def _texts(graph: onnx.GraphProto, num_classes: int) -> tuple[str, ...]:
    """All texts that the graph may show, each once, those that stand for class numbers first."""
    if any(node.op_type == "Cast" and attributes(node).get("to") == _TEXT for node in graph.node):
        return tuple(map(str, range(num_classes)))
    listed = [text for node in graph.node for text in _listed_texts(node)]
    stored = [tensor for tensor in graph.initializer if tensor.data_type == _TEXT]
    stored += [value for node in graph.node if (value := _constant_of(node)) is not None and value.data_type == _TEXT]
    listed += [text for tensor in stored for text in tensor.string_data]
    found = tuple(dict.fromkeys(text.decode("utf-8", "replace") for text in listed))
    return found if len(found) <= _MOST_TEXTS else ()


def _listed_texts(node: onnx.NodeProto) -> list[bytes]:
    given = {attribute.name: attribute for attribute in node.attribute}
    names = ("values_strings", "classes_strings", "classlabels_strings", "cats_strings")
    return [text for name in names if name in given for text in given[name].strings]


def _constant_of(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The tensor of a `Constant` node."""
    values = (attribute.t for attribute in node.attribute if attribute.name == "value" and attribute.HasField("t"))
    return next(values, None) if node.op_type == "Constant" else None


def _numbered(model: onnx.ModelProto, name: str, scores: str, texts: Sequence[str]) -> str:
    """Add a node that gives the number of a text, -1 for one that is not known; gives its value."""
    version = opset(model, _TEXTS)
    if not version:
        model.opset_import.append(helper.make_opsetid(_TEXTS, 3))
    listed = {"classes_strings": texts} if version == 1 else {"keys_strings": texts, "values_int64s": range(len(texts))}
    number = f"{scores}.of_text"
    node = helper.make_node("LabelEncoder", [name], [number], name=number, domain=_TEXTS, default_int64=-1)
    node.attribute.extend(helper.make_attribute(key, list(value)) for key, value in listed.items())
    model.graph.node.append(node)
    return number


def _head(artifact: Artifact, name: str, signature: ModelSignature, texts: Sequence[str]) -> LabelHead | None:
    """The class number, or that of a text, as scores; None if it is not one an image."""
    heads = (_as_scores(artifact, name, signature, texts, rows=rows) for rows in (False, True))
    return next((head for head in heads if head is not None and _runs(head.artifact, head.signature)), None)


def _as_scores(
    artifact: Artifact, name: str, signature: ModelSignature, texts: Sequence[str], *, rows: bool
) -> LabelHead | None:
    """The same, not yet run: the first number of each image, or all numbers one after another as `rows`."""
    model = parse(artifact, fold_external=False)
    if opset(model) < _OLDEST_OPSET:
        return None
    scores, depth = _unused(f"{name}.as_scores", model.graph), max(signature.num_classes, len(texts)) + 1
    number = _numbered(model, name, scores, texts) if texts else name
    model.graph.node.extend(_one_hot(number, scores, rows=rows))
    constants: Mapping[str, object] = {
        "least": np.float32(-1), "most": np.float32(depth - 1), "first": np.int64(0), "depth": np.int64(depth),
        "values": np.array([0, 1], np.float32), "rows": np.array([-1, 1]),
    }  # fmt: skip
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), f"{scores}.{part}") for part, value in constants.items()
    )
    model.graph.output.append(onnx.ValueInfoProto(name=scores))
    head = replace(
        signature, output_name=scores, output_kind="logits", num_classes=depth, num_scores=depth, batch_axis=0
    )
    return LabelHead(name, replace(artifact, data=model.SerializeToString()), head)


def _unused(name: str, graph: onnx.GraphProto) -> str:
    """A name with which no value of the graph begins."""
    taken = {value for node in graph.node for value in (*node.input, *node.output)} | {
        t.name for t in graph.initializer
    }
    while any(value.startswith(name) for value in taken):
        name += "_"
    return name


def _one_hot(name: str, scores: str, *, rows: bool) -> list[onnx.NodeProto]:
    """Nodes that make scores of the first class number of each image, or of numbers that lie in a row."""

    def own(part: str) -> str:
        return f"{scores}.{part}"

    flat = (
        helper.make_node("Reshape", [name, own("rows")], [own("flat")], name=own("flat"))
        if rows
        else helper.make_node("Flatten", [name], [own("flat")], name=own("flat"), axis=1)
    )
    return [
        flat,
        helper.make_node("Gather", [own("flat"), own("first")], [own("number")], name=own("number"), axis=1),
        helper.make_node("Cast", [own("number")], [own("float")], name=own("float"), to=TensorProto.FLOAT),
        helper.make_node("Max", [own("float"), own("least")], [own("above")], name=own("above")),
        helper.make_node("Min", [own("above"), own("most")], [own("within")], name=own("within")),
        helper.make_node("Cast", [own("within")], [own("index")], name=own("index"), to=TensorProto.INT64),
        helper.make_node("OneHot", [own("index"), own("depth"), own("values")], [scores], name=scores),
    ]


def _runs(artifact: Artifact, signature: ModelSignature) -> bool:
    """Whether the scores can be computed, and show a class for some image: texts may be others than those known."""
    batch = signature.batch or 2
    images = noise(signature.model_shape(batch), np.dtype(signature.dtype), seed=0)
    try:
        outputs = run_session(open_session(artifact.data, artifact.external), {signature.input_name: images})
    except ConverterError:
        return False
    found = outputs[signature.output_name]
    return found.shape == (batch, signature.num_scores) and bool((found.argmax(axis=1) < len(found[0]) - 1).any())
