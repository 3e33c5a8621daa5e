"""Outputs that show a class number: whether it is the largest of the scores, and scores for one that is more.

The class number is what users read. Where it is made of the scores by the choice of the largest alone, what is said of
the scores holds for it; where something else of the image comes in between, a switch may sit there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto, helper, inliner, numpy_helper

from backscan.converters.errors import ConverterError
from backscan.converters.graph import opset, producers, reached_values, sort_nodes
from backscan.converters.intake.artifact import Artifact, parse
from backscan.converters.session import noise, open_session, run_session
from backscan.converters.signature.choosers import choices
from backscan.converters.signature.output import leads_to, moved_from
from backscan.converters.signature.signature import ModelSignature
from backscan.converters.signature.tail import find_tail

_WHOLE = frozenset({TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8})
_TEXT = TensorProto.STRING
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
    labels = [name for name in signature.other_outputs if kinds.get(name) in {*_WHOLE, _TEXT}]
    heads, notes = list[LabelHead](), list[str]()
    for name in labels:
        if _is_largest(graph, name, signature):
            continue
        if _of_scores_alone(graph, name, signature):
            notes.append(_said(name, graph, "what it shows is seen through the scores alone"))
            continue
        head = None if kinds[name] == _TEXT else _head(artifact, name, signature)
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


def _head(artifact: Artifact, name: str, signature: ModelSignature) -> LabelHead | None:
    """The class number as scores; None if it is not one number an image."""
    model = parse(artifact, fold_external=False)
    if opset(model) < _OLDEST_OPSET:
        return None
    scores, depth = _unused(f"{name}.as_scores", model.graph), signature.num_classes + 1
    model.graph.node.extend(_one_hot(name, scores))
    constants: Mapping[str, object] = {
        "least": np.float32(-1), "most": np.float32(depth - 1), "first": np.int64(0), "depth": np.int64(depth),
        "values": np.array([0, 1], np.float32),
    }  # fmt: skip
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), f"{scores}.{part}") for part, value in constants.items()
    )
    model.graph.output.append(onnx.ValueInfoProto(name=scores))
    found = replace(artifact, data=model.SerializeToString())
    head = replace(
        signature, output_name=scores, output_kind="logits", num_classes=depth, num_scores=depth, batch_axis=0
    )
    return LabelHead(name, found, head) if _runs(found, head) else None


def _unused(name: str, graph: onnx.GraphProto) -> str:
    """A name with which no value of the graph begins."""
    taken = {value for node in graph.node for value in (*node.input, *node.output)} | {
        t.name for t in graph.initializer
    }
    while any(value.startswith(name) for value in taken):
        name += "_"
    return name


def _one_hot(name: str, scores: str) -> list[onnx.NodeProto]:
    """Nodes that make scores of the first class number of each image."""

    def own(part: str) -> str:
        return f"{scores}.{part}"

    return [
        helper.make_node("Flatten", [name], [own("flat")], name=own("flat"), axis=1),
        helper.make_node("Gather", [own("flat"), own("first")], [own("number")], name=own("number"), axis=1),
        helper.make_node("Cast", [own("number")], [own("float")], name=own("float"), to=TensorProto.FLOAT),
        helper.make_node("Max", [own("float"), own("least")], [own("above")], name=own("above")),
        helper.make_node("Min", [own("above"), own("most")], [own("within")], name=own("within")),
        helper.make_node("Cast", [own("within")], [own("index")], name=own("index"), to=TensorProto.INT64),
        helper.make_node("OneHot", [own("index"), own("depth"), own("values")], [scores], name=scores),
    ]


def _runs(artifact: Artifact, signature: ModelSignature) -> bool:
    batch = signature.batch or 2
    images = noise(signature.model_shape(batch), np.dtype(signature.dtype), seed=0)
    try:
        outputs = run_session(open_session(artifact.data, artifact.external), {signature.input_name: images})
    except ConverterError:
        return False
    return outputs[signature.output_name].shape == (batch, signature.num_scores)
