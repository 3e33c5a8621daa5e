"""Places in a graph where a few values computed from the image decide what reaches the output.

Ordinary networks do have predicates, but each acts on its own element: an activation such as `Where(x > 0, x, a x)`,
a guard against NaN, a binarised layer. A *switch* is different: few values (a comparison of a mean, a steep gate)
act on something that was computed on another way. Two kinds are listed:

- hard: the gate is computed through a comparison, a sign or a rounding, and selects, masks or shifts something that
  takes more values than it does;
- soft: a narrow side path joins the main path. Most are ordinary (squeeze and excitation, normalisation by a mean);
  whether one lies dormant on ordinary images is for the caller to find out.

Whether numbers are rounded or whole says nothing about which way they came: where two rounded ways meet, the narrow one
is listed too, as soft unless it came through a comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from backscan.converters.graph import consumers, operators, reached_values, reads

PREDICATES = operators("And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Sign Xor")
"""Operators that give few different values whatever goes in."""
COUNTS = operators("Compress NonMaxSuppression NonZero Shape Size Unique")
"""Operators whose result tells how many, or which, elements there are: as good as a predicate."""
STEPS = operators(
    "ArgMax ArgMin BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Floor Hardmax Mod OneHot QuantizeLinear "
    "Round"
)
"""Operators with steps. On many values at once they are how networks are quantised; on few they are a gate."""
LINEAR = operators(
    "Conv ConvTranspose Einsum GRU Gemm LSTM LinearClassifier LinearRegressor MatMul RNN SVMClassifier SVMRegressor "
    "TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor"
)
"""Operators that mix many values: what comes out of many discrete values is as good as continuous."""
_MOVING = operators(
    "ArgMax ArgMin AveragePool Concat Expand Flatten Gather GatherElements GatherND GlobalAveragePool GlobalMaxPool "
    "MaxPool OneHot Pad Reshape Resize ReverseSequence ScatterND Slice Split Squeeze Tile TopK Transpose Unsqueeze"
)
"""Operators whose elements do not come from the same element of the input."""
_JOINS = operators(
    "Add BatchNormalization BitShift BitwiseAnd BitwiseOr BitwiseXor Clip Concat Conv ConvInteger ConvTranspose "
    "DeformConv Div Einsum GRU Gemm GridSample GroupNormalization InstanceNormalization LSTM LayerNormalization MatMul "
    "MatMulInteger Max MaxRoiPool MaxUnpool Mean Min Mod Mul PRelu Pow QGemm QLinearAdd QLinearConcat QLinearConv "
    "QLinearMatMul QLinearMul RNN Resize RoiAlign ScatterElements ScatterND Sub Sum Upsample Where"
)
_ALONG_AN_AXIS = operators(
    "CumSum GroupNormalization Hardmax InstanceNormalization LRN LayerNormalization LogSoftmax LpNormalization "
    "MeanVarianceNormalization RMSNormalization SimplifiedLayerNormalization SkipLayerNormalization Softmax"
)
"""Operators that keep the shape and still mix the elements of an image."""
_INTEGERS = frozenset(range(2, 8)) | {9, 12, 13}
_MANY = 1 << 62
_MAX_NODES = 12
_SMOOTH, _STEPPED, _DECIDED = 0, 1, 2
"""How a value changes: gradually, in steps as after a rounding, or between few values as after a comparison."""


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
class Activation:
    """A value whose elements are functions of those of another one: units and what moves them."""

    before: str
    """Value that moves them."""
    after: str
    """Value that holds them."""
    node: str
    """Name of the node that computes it."""
    rises: bool
    """Whether it is nothing but a `Relu`, so that only larger numbers change a unit that holds its least value."""


@dataclass(frozen=True, slots=True)
class _Trait:
    """What is known of a value that depends on the image."""

    root: str
    """Value of which this one is a function element by element."""
    level: int
    """In which steps it changes."""
    width: int
    """How many independent numbers it can hold for an image, at most."""

    @property
    def discrete(self) -> bool:
        """Whether it takes few different values."""
        return self.level > _SMOOTH


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
        self._traits = {image: _Trait(image, _SMOOTH, width=sizes.get(image, _MANY))}
        reached = reached_values(graph, [image])
        for index, node in enumerate(graph.node):
            self._makers.update((name, (index, node)) for name in node.output if name)
            given = self._given(node)
            if given:
                self._traits.update((name, self._trait(node, name, given)) for name in node.output if name in reached)

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

    def activations(self) -> tuple[Activation, ...]:
        """Values that are functions of others element by element and go on to other ways, in the order of the graph."""
        readers, found = consumers(self._graph), list[Activation]()
        for name, (index, node) in self._makers.items():
            root = self._traits[name].root if name in self._traits else name
            if root not in self._makers or root == name or self._sizes.get(root) != self._sizes.get(name):
                continue
            made = [given for reader in readers[name] for given in reader.output if given in self._traits]
            between = self._between(root, name)
            if any(self._traits[given].root != root for given in made) and _ALONG_AN_AXIS.isdisjoint(between):
                found.append(Activation(root, name, name_of(node, index), rises=between == {"Relu"}))
        return tuple(found)

    def depends_on(self, name: str) -> set[str]:
        """Values that depend on another one, that one left out."""
        return reached_values(self._graph, [name]) - {name}

    def forming_values(self, gates: Sequence[str]) -> tuple[str, ...]:
        """Small values that lead to some gates, those left out that are as large as the image and so show all of it."""
        waiting, found = list(gates), dict[str, None]()
        whole = next(iter(self._traits.values())).width
        while waiting:
            value = waiting.pop()
            if value in found or value not in self._makers or not (self.is_discrete(value) or self.is_narrow(value)):
                continue
            found[value] = None
            waiting += [name for name in self._makers[value][1].input if name in self._traits]
        return tuple(name for name in found if self._sizes.get(name, _MANY) < whole)

    def _gates(self, node: onnx.NodeProto, scores_root: str) -> list[tuple[str, bool]]:
        """The values that act as gates on this node, each with whether it is hard."""
        names = [name for name in dict.fromkeys(node.input) if name in self._traits]
        if node.op_type == "If":
            return [(node.input[0], True)] if names[:1] == [node.input[0]] else []
        hard = [name for name in names if self.is_narrow(name) and self._acts(name, names, scores_root)]
        roots = {self._traits[name].root for name in names}
        if hard or node.op_type not in _JOINS or len(roots) < 2:
            return [(name, True) for name in hard]
        # The image itself is narrow where it is tiny, but it is no gate.
        soft = [name for name in names if self.is_narrow(name) and name in self._makers]
        return [(name, self._traits[name].level == _DECIDED) for name in soft]

    def _acts(self, gate: str, names: Sequence[str], scores_root: str) -> bool:
        """Whether a value that changes in steps meets one that changes in smaller ones, or in none, on another way."""
        own = self._traits[gate]
        roots = {self._traits[name].root for name in names if self._traits[name].level < own.level}
        return own.discrete and bool(roots) and (roots != {own.root} or roots == {scores_root})

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

    def _between(self, root: str, name: str) -> set[str]:
        """Operators on the way from a value to a function of it element by element."""
        waiting, found, seen = [name], set[str](), {root}
        while waiting:
            value = waiting.pop()
            if value in seen or value not in self._makers:
                continue
            seen.add(value)
            node = self._makers[value][1]
            found.add(node.op_type)
            waiting += [given for given in node.input if given in self._traits]
        return found

    def _given(self, node: onnx.NodeProto) -> list[_Trait]:
        return [self._traits[name] for name in sorted(reads(node)) if name in self._traits]

    def _trait(self, node: onnx.NodeProto, output: str, given: Sequence[_Trait]) -> _Trait:
        # What is computed from few numbers cannot hold more than those, however it is spread out.
        width = min(self._sizes.get(output, _MANY), sum(trait.width for trait in given))
        roots = {trait.root for trait in given}
        elementwise = len(roots) == 1 and node.op_type not in LINEAR | _MOVING and not node.op_type.startswith("Reduce")
        root = roots.pop() if elementwise else output
        return _Trait(root, self._level(node, output, given, width), width)

    def _level(self, node: onnx.NodeProto, output: str, given: Sequence[_Trait], width: int) -> int:
        operator, few = node.op_type, width <= self._narrow
        if operator in PREDICATES | COUNTS:
            return _DECIDED
        least = min(trait.level for trait in given)
        if operator in STEPS or (operator == "TopK" and output == node.output[-1]) or _casts_to_integer(node):
            return max(least, _STEPPED) if few or least == _DECIDED else _SMOOTH
        if operator in ("DequantizeLinear", "QLinearConv", "If", "Loop") or (operator in LINEAR and not few):
            return _SMOOTH
        return least


def _casts_to_integer(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i in _INTEGERS for a in node.attribute)
