"""Models of something else than images and classes, told by what their graph declares and how it begins.

Token ids of a text are no flat picture, a waveform is none either, and boxes are no classes. What the graph leaves no
doubt about is refused before anything is run; a mere likeness is named only where the model cannot be read anyway.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import onnx
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto

from backscan.converters.graph import consumers, dimensions, free_inputs, operators
from backscan.converters.intake.violations import shown

_HANDS_ON = operators("Cast Clip Flatten Identity Reshape Squeeze Transpose Unsqueeze")
"""Operators that hand token ids and waveforms on as they are."""
_TOKENS = frozenset({TensorProto.INT32, TensorProto.INT64})
_EMBEDDINGS = operators("EmbedLayerNormalization GatherBlockQuantized")
_OF_SOUND = operators("STFT MelWeightMatrix")
_BOXES = operators("NonMaxSuppression EfficientNMS_TRT BatchedNMS_TRT TRT_NonMaxSuppression DetectionOutput")
_LEAST_SAMPLES = 8000
"""Values of a row from which a convolution along it is of a signal: half a second of speech."""
_SCANNED = "backscan scans classifiers of images, with one score for each class"


@dataclass(frozen=True, slots=True)
class Task:
    """What a model is that is no classifier of images."""

    name: str
    """What it is called, with its article."""
    evidence: str
    """What tells."""
    is_certain: bool = True
    """Whether the graph leaves no doubt."""

    def __str__(self) -> str:
        return f"{self.name} ({self.evidence}); {_SCANNED}"


def other_task(graph: GraphProto) -> Task | None:
    """What else than a classifier of images a graph is; None where nothing shows that.

    Args:
        graph: The graph, its nodes in any order.
    """
    values = [value for value in free_inputs(graph) if value.type.HasField("tensor_type")]
    readers = consumers(graph)
    texts = [text for value in values if (text := _text(graph, value, readers)) is not None]
    pictures = [value for value in values if len(dimensions(value) or ()) == 4]
    if texts and pictures:
        return Task("a model of images and texts", f"{texts[0]}, beside the images {shown(pictures[0].name)}")
    if texts:
        return Task("a model of texts", texts[0])
    sounds = (task for value in values if (task := _sound(graph, value, readers)) is not None)
    return next(sounds, None) or _detector(graph)


def _text(graph: GraphProto, value: ValueInfoProto, readers: dict[str, list[NodeProto]]) -> str | None:
    """Why an input holds a text; None if it does not seem to."""
    kind = value.type.tensor_type.elem_type
    if kind == TensorProto.STRING:
        return f"input {shown(value.name)} takes strings"
    if kind not in _TOKENS or len(dimensions(value) or ()) > 2:
        return None
    tables = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    for name, node in _first_readers(value.name, readers):
        looks_up = node.op_type == "Gather" and list(node.input)[1:] == [name] and node.input[0] in tables
        if looks_up or node.op_type in _EMBEDDINGS:
            return f"input {shown(value.name)} holds token ids, which look up rows of a table"
    return None


def _sound(graph: GraphProto, value: ValueInfoProto, readers: dict[str, list[NodeProto]]) -> Task | None:
    sizes = dimensions(value)
    if sizes is None or len(sizes) not in (2, 3):
        return None
    for _, node in _first_readers(value.name, readers, through=_HANDS_ON | operators("Pad Sub Div Mul Add")):
        if node.op_type in _OF_SOUND:
            return Task("a model of sound", f"input {shown(value.name)} goes into {node.op_type}")
        if node.op_type == "Conv" and any(_rank(graph, name) == 3 for name in node.input[1:2]):
            length = sizes[-1]
            evidence = f"a convolution goes along the one axis of input {shown(value.name)}"
            is_long = length is None or length >= _LEAST_SAMPLES
            return Task("a model of sound or of another signal", evidence, is_certain=is_long)
    return None


def _detector(graph: GraphProto) -> Task | None:
    name = next((node.op_type for node in graph.node if node.op_type in _BOXES), "")
    if name:
        return Task("a detector of objects", f"{name} chooses among boxes")
    boxes = [value.name for value in graph.output if _holds_boxes(value)]
    return Task("a detector of objects", f"output {shown(boxes[0])} holds boxes", is_certain=False) if boxes else None


def _holds_boxes(value: ValueInfoProto) -> bool:
    sizes = dimensions(value) or ()
    return len(sizes) == 3 and sizes[-1] == 4 and sizes[1] != 1


def _first_readers(
    name: str, readers: dict[str, list[NodeProto]], through: Collection[str] = _HANDS_ON
) -> Iterator[tuple[str, NodeProto]]:
    """The first nodes that make something of a value, behind those that merely hand it on."""
    waiting, seen = [name], {name}
    while waiting:
        value = waiting.pop()
        for node in readers.get(value, ()):
            if node.op_type not in through:
                yield value, node
                continue
            new = [output for output in node.output if output not in seen]
            waiting += new
            seen.update(new)


def _rank(graph: GraphProto, name: str) -> int:
    return next((len(tensor.dims) for tensor in graph.initializer if tensor.name == name), 0)


def check_task(model: onnx.ModelProto) -> str:
    """Why a model is certainly no classifier of images; empty where it may be one."""
    task = other_task(model.graph)
    return f"expected a classifier of images, found {task}" if task is not None and task.is_certain else ""
