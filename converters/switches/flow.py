"""Places in a graph where a few values computed from the image decide what reaches the output.

Ordinary networks do have predicates, but each acts on its own element: an activation such as `Where(x > 0, x, a x)`,
a guard against NaN, a binarised layer. A *switch* is different: few values (a comparison of a mean, a steep gate)
act on something that was computed on another way. Two kinds are listed:

- hard: the gate is computed through a comparison, a sign or a rounding, and selects, masks or shifts something;
- soft: a narrow side path joins the main path. Most are ordinary (squeeze and excitation, normalisation by a mean);
  whether one lies dormant on ordinary images is for the caller to find out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from backscan.converters.graph import SHAPE_OPERATORS, operators, reads

PREDICATES = operators("And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Sign Xor")
"""Operators that give few different values whatever goes in."""
STEPS = operators(
    "ArgMax ArgMin BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Floor Hardmax Mod OneHot QuantizeLinear "
    "Round"
)
"""Operators with steps. On many values at once they are how networks are quantised; on few they are a gate."""
LINEAR = operators("Conv ConvTranspose Einsum Gemm MatMul")
"""Operators that mix many values: what comes out of many discrete values is as good as continuous."""
_MOVING = operators(
    "ArgMax ArgMin AveragePool Concat Expand Flatten Gather GatherElements GatherND GlobalAveragePool GlobalMaxPool "
    "MaxPool OneHot Pad Reshape Resize ScatterND Slice Split Squeeze Tile TopK Transpose Unsqueeze"
)
"""Operators whose elements do not come from the same element of the input."""
_JOINS = operators("Add Concat Div Gemm MatMul Max Mean Min Mul Pow Sub Sum Where")
_INTEGERS = frozenset(range(2, 8)) | {9, 12, 13}
_MANY = 1 << 62
_MAX_NODES = 12


@dataclass(frozen=True, slots=True)
class Switch:
    """A value that decides what reaches the output."""

    gate: str
    """Value that acts."""
    join: str
    """Name of the node on which it acts."""
    operator: str
    """Operator of that node."""
    hard: bool
    """Whether the gate is computed through a comparison, a sign or a rounding."""
    nodes: tuple[str, ...]
    """Nodes that form the gate, from the last to the first, at most 12."""


@dataclass(frozen=True, slots=True)
class _Trait:
    """What is known of a value that depends on the image."""

    root: str
    """Value of which this one is a function element by element."""
    discrete: bool
    """Whether it takes few different values."""
    width: int
    """How many independent numbers it can hold for an image, at most."""


def name_of(node: onnx.NodeProto, index: int) -> str:
    """Name of a node, or its place in the graph."""
    return node.name or f"{node.op_type}#{index}"


class ImageFlow:
    """How the image flows through a graph.

    Args:
        graph: A graph in topological order, without functions.
        image: Name of the image input.
        sizes: Value -> numbers it holds for an image; what is missing counts as large.
        narrow: Numbers up to which a value is narrow.
    """

    def __init__(self, graph: onnx.GraphProto, image: str, sizes: Mapping[str, int], narrow: int) -> None:
        self._graph = graph
        self._sizes = sizes
        self._narrow = narrow
        self._makers: dict[str, tuple[int, onnx.NodeProto]] = {}
        self._traits = {image: _Trait(image, discrete=False, width=sizes.get(image, _MANY))}
        for index, node in enumerate(graph.node):
            self._makers.update((name, (index, node)) for name in node.output if name)
            given = self._given(node)
            if given and node.op_type not in SHAPE_OPERATORS:
                self._traits.update((name, self._trait(node, name, given)) for name in node.output if name)

    def switches(self, output: str) -> tuple[Switch, ...]:
        """List the switches on the way to an output, hard ones first, each in the order of the graph."""
        scores_root = self._traits[output].root if output in self._traits else ""
        found: dict[tuple[str, str], Switch] = {}
        for index, node in enumerate(self._graph.node):
            for gate, hard in self._gates(node, scores_root):
                join = name_of(node, index)
                found[gate, join] = Switch(gate, join, node.op_type, hard, self._forming_nodes(gate))
        return tuple(sorted(found.values(), key=lambda switch: not switch.hard))

    def is_discrete(self, name: str) -> bool:
        """Whether a value depends on the image but takes few different values."""
        return name in self._traits and self._traits[name].discrete

    def is_narrow(self, name: str) -> bool:
        """Whether a value depends on the image and holds few independent numbers."""
        return name in self._traits and self._traits[name].width <= self._narrow

    def _gates(self, node: onnx.NodeProto, scores_root: str) -> list[tuple[str, bool]]:
        """The values that act as gates on this node, each with whether it is hard."""
        names = [name for name in dict.fromkeys(node.input) if name in self._traits]
        if node.op_type == "If":
            return [(node.input[0], True)] if names[:1] == [node.input[0]] else []
        discrete = [name for name in names if self._traits[name].discrete]
        smooth = [name for name in names if not self._traits[name].discrete]
        roots = {self._traits[name].root for name in smooth}
        hard = [
            name
            for name in discrete
            if smooth and self.is_narrow(name) and (roots != {self._traits[name].root} or roots == {scores_root})
        ]
        if hard or node.op_type not in _JOINS or len(roots) < 2:
            return [(name, True) for name in hard]
        # The image itself is narrow where it is tiny, but it is no gate.
        return [(name, False) for name in smooth if self.is_narrow(name) and name in self._makers]

    def _forming_nodes(self, gate: str) -> tuple[str, ...]:
        """Nodes that lead to a gate, as far as the values are discrete or narrow."""
        waiting, found = [gate], dict[str, None]()
        while waiting and len(found) < _MAX_NODES:
            value = waiting.pop(0)
            if value not in self._makers or not (self.is_discrete(value) or self.is_narrow(value)):
                continue
            index, node = self._makers[value]
            found[name_of(node, index)] = None
            waiting += [name for name in node.input if name in self._traits]
        return tuple(found)

    def _given(self, node: onnx.NodeProto) -> list[_Trait]:
        return [self._traits[name] for name in sorted(reads(node)) if name in self._traits]

    def _trait(self, node: onnx.NodeProto, output: str, given: Sequence[_Trait]) -> _Trait:
        # What is computed from few numbers cannot hold more than those, however it is spread out.
        width = min(self._sizes.get(output, _MANY), sum(trait.width for trait in given))
        roots = {trait.root for trait in given}
        elementwise = len(roots) == 1 and node.op_type not in LINEAR | _MOVING and not node.op_type.startswith("Reduce")
        root = roots.pop() if elementwise else output
        return _Trait(root, self._is_discrete(node, output, given, width), width)

    def _is_discrete(self, node: onnx.NodeProto, output: str, given: Sequence[_Trait], width: int) -> bool:
        operator, few = node.op_type, width <= self._narrow
        if operator in PREDICATES:
            return True
        if operator in STEPS or (operator == "TopK" and output == node.output[-1]) or _casts_to_integer(node):
            return few
        if operator in ("DequantizeLinear", "QLinearConv", "If", "Loop"):
            return False
        return all(trait.discrete for trait in given) and (operator not in LINEAR or few)


def _casts_to_integer(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i in _INTEGERS for a in node.attribute)
