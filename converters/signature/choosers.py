"""Outputs that hold what was chosen among the class scores: sorted, the largest, its class; and those scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from backscan.converters.graph import attributes, operators, producers, reached_values
from backscan.converters.signature.output import OutputForm
from backscan.converters.signature.tail import MOVES_SCORES

_CHOOSES = operators("ArgMax ArgMin GlobalMaxPool Hardmax MaxPool ReduceMax ReduceMin TopK")
"""Operators that give one, some or the place of their input's numbers."""
_SORTS = operators("ArgMax ArgMin Hardmax TopK")
"""Those whose result is a choice among classes even if it has several numbers."""
_CHOOSES_BETWEEN = operators("Max Min")
"""The same, of numbers that a `Split` gave them one by one."""
_LEAST = operators("ArgMin Min ReduceMin")
_TAKES = operators("Gather GatherElements GatherND ArrayFeatureExtractor")
"""Operators that choose where their indices depend on the image."""
_KEEPS_CHOICE = MOVES_SCORES | operators(
    "Abs Add ArrayFeatureExtractor Ceil Clip Concat DequantizeLinear Div Exp Expand Floor Gather GatherElements "
    "LabelEncoder Log LogSoftmax Mul Neg Normalizer OneHot Pow QuantizeLinear ReduceSum Round Sigmoid Slice Softmax "
    "Split Sqrt Sub Tile"
)
"""Operators behind which a choice is still one, where nothing else of the image comes in."""


LABEL_TYPES = frozenset(
    (TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8, TensorProto.STRING)
)
"""Element types of outputs that may show which class it is."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One operator on the way to an output that may choose among class scores."""

    source: str
    """Value that it chooses from."""
    operator: str
    """Its name."""
    least: bool
    """Whether it takes the least, so that the source holds distances and no scores."""


def choices(graph: onnx.GraphProto, image: str, *, through_joins: bool = False) -> dict[str, tuple[Choice, ...]]:
    """What the graph's outputs may be chosen from, judged by the operators alone.

    Args:
        graph: The graph in topological order.
        image: Its image input.
        through_joins: Whether to look behind what else of the image comes into a class number or name, as at a gate.

    Returns:
        Output -> the choices behind it, from the output towards the image; outputs without any are left out.
    """
    made_by, reached = producers(graph), reached_values(graph, [image])
    found = {value.name: tuple(_behind(value.name, made_by, reached)) for value in graph.output}
    if through_joins:
        labels = [value.name for value in graph.output if value.type.tensor_type.elem_type in LABEL_TYPES]
        found |= {name: tuple(_behind_joins(name, made_by, reached)) for name in labels if not found[name]}
    return {name: behind for name, behind in found.items() if behind}


def _behind(name: str, made_by: Mapping[str, onnx.NodeProto], reached: set[str]) -> Iterator[Choice]:
    while (node := made_by.get(name)) is not None:
        data = list(dict.fromkeys(value for value in node.input if value in reached))
        if not data:
            return
        source = _source(node, data, made_by)
        if source:
            yield Choice(source, node.op_type, _takes_least(node))
        elif len(data) > 1 or node.op_type not in _KEEPS_CHOICE:
            return
        name = source or data[0]


def _behind_joins(name: str, made_by: Mapping[str, onnx.NodeProto], reached: set[str]) -> Iterator[Choice]:
    """The nearest choice of a class behind a class number, on whichever way; conditions come last."""
    waiting, seen = [name], set[str]()
    while waiting:
        value = waiting.pop()
        node = made_by.get(value)
        if node is None or value in seen:
            continue
        seen.add(value)
        data = list(dict.fromkeys(given for given in node.input if given in reached))
        if data and node.op_type in _SORTS and _source(node, data, made_by):
            yield from _behind(value, made_by, reached)
            return
        waiting += data[::-1] if node.op_type != "Where" else [*data[:1], *data[:0:-1]]


def _source(node: onnx.NodeProto, data: list[str], made_by: Mapping[str, onnx.NodeProto]) -> str:
    """Value that the node chooses from; empty if it does not choose."""
    if node.op_type in _CHOOSES or (node.op_type in _TAKES and len(data) == 2):
        return str(node.input[0])
    if node.op_type not in _CHOOSES_BETWEEN or len(data) < 2:
        return ""
    parts = {id(maker): maker for name in data if (maker := made_by.get(_unmoved(name, made_by))) is not None}
    (first, *others) = parts.values() or [None]
    return str(first.input[0]) if first is not None and not others and first.op_type == "Split" else ""


def _takes_least(node: onnx.NodeProto) -> bool:
    return node.op_type in _LEAST or (node.op_type == "TopK" and not attributes(node).get("largest", 1))


def _unmoved(name: str, made_by: Mapping[str, onnx.NodeProto]) -> str:
    while name in made_by and made_by[name].op_type in MOVES_SCORES:
        name = made_by[name].input[0]
    return name


def chosen_from(found: Mapping[str, tuple[Choice, ...]], forms: Mapping[str, OutputForm]) -> dict[str, Choice]:
    """Outputs that do hold a choice among class scores.

    The largest value of a feature map gives a score for each class, the largest of a vector of scores does not: only
    what is chosen from a vector counts. A vector taken from several by an index or a maximum is a switch or a maxout,
    and stays what is scanned; a vector that is sorted, or shows the class itself, is a choice.

    Args:
        found: What `choices` gave.
        forms: Forms of all outputs and of the values that they may be chosen from.

    Returns:
        Output -> the choice next to the image whose source has a number for each class.
    """
    vectors = {name for name, form in forms.items() if _has_classes(form)}
    real = {
        name: [c for c in behind if _has_classes(forms.get(c.source)) and (c.operator in _SORTS or name not in vectors)]
        for name, behind in found.items()
    }
    return {name: behind[-1] for name, behind in real.items() if behind}


def _has_classes(form: OutputForm | None) -> bool:
    return form is not None and form.num_scores > 1


def candidates(
    forms: Mapping[str, OutputForm], declared: list[str], chosen: Mapping[str, Choice], wanted: str | None
) -> dict[str, OutputForm]:
    """Forms of what may be taken for the class scores.

    Args:
        forms: Forms of the outputs and of the values that some are chosen from.
        declared: Names of the outputs.
        chosen: What `chosen_from` gave.
        wanted: Name given by the user, None if none.

    Returns:
        Outputs that are not chosen from others, and values chosen from, unless an output gives as many scores.
    """
    outputs = {name: form for name, form in forms.items() if name in declared and name not in chosen}
    known = {form.num_scores for form in outputs.values()}
    sources = {c.source: forms[c.source] for c in chosen.values() if c.source not in declared and not c.least}
    hidden = {name: form for name, form in sources.items() if name == wanted or form.num_scores not in known}
    return outputs | hidden
