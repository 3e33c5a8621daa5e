"""A twin of a gate that has a gradient: comparisons become differences, saturated steps are left out.

The twin rises where the gate rises, and is not negative where all conditions of the gate hold, so that an ascent on it
finds images on which the gate acts. Only the end of the gate's computation is rewritten, where values are discrete or
stand still on ordinary images; what comes before, such as a whole network whose scores are compared, stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from copy import deepcopy
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from backscan.converters.errors import UnsupportedOperatorError
from backscan.converters.graph import constants, drop_unused, operators, opset, producers, set_outputs, shape_inputs
from backscan.converters.intake.node_names import OWN
from backscan.converters.switches.index_relaxation import index_source, largest_at

_MARGIN = 1e-4
"""By how much a comparison is to be exceeded: a difference of 0 does not make one true."""

_PASSED_OVER = operators(
    "BitShift Cast Ceil DequantizeLinear Exp Floor Identity LogSoftmax OneHot Pow QuantizeLinear "
    "Round Sign Softmax Sqrt"
)
"""Rising functions of their first input whose gradient vanishes somewhere, or everywhere."""

_RAMPS = operators(
    "Celu Clip Elu Erf HardSigmoid HardSwish LeakyRelu PRelu Relu Selu Sigmoid Softplus Tanh ThresholdedRelu"
)
"""Rising functions that bend at zero or near it; their differences, such as relu(x) - relu(x - 1), are gates too."""

_ARITHMETIC = operators("Add Concat Div Gemm MatMul Max Mean Min Sub Sum")
"""Operators all of whose inputs are numbers: constants among them become floats too."""

_UNKNOWN = operators("BitwiseAnd BitwiseNot BitwiseOr BitwiseXor IsInf IsNaN TopK")
"""Operators of which nothing is known that rises with them."""
_MOST_AXES = 8
"""Axes of a tensor, at most."""


def relax(model: onnx.ModelProto, gate: str, rewritten: Set[str], reached: Set[str]) -> onnx.ModelProto:
    """A model whose only output is the twin of a gate.

    Args:
        model: A model in plain form.
        gate: A value of its graph.
        rewritten: Values to be computed without steps: those that are discrete or stand still.
        reached: Values that depend on the image.

    Raises:
        UnsupportedOperatorError: the gate rests on an operator that cannot be relaxed.
    """
    twin = deepcopy(model)
    relaxation = _Relaxation(twin, reached)
    for node in list(twin.graph.node):
        if not rewritten.isdisjoint(node.output):
            relaxation.take(node)
    set_outputs(twin.graph, [relaxation.twin_of(gate)])
    twin.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    drop_unused(twin.graph)
    return twin


class _Relaxation:
    """The twins of values, made in the order of the graph."""

    def __init__(self, model: onnx.ModelProto, reached: Set[str]) -> None:
        self._model = model
        self._graph = model.graph
        self._reached = reached
        self._constants = constants(model.graph)
        self._makers = producers(model.graph)
        self._twins: dict[str, str] = {}
        self._blocked: dict[str, onnx.NodeProto] = {}
        self._zero = self._store(np.array(0, np.float32))
        self._one = self._store(np.array(1, np.float32))
        self._margin = self._store(np.array(_MARGIN, np.float32))

    def take(self, node: onnx.NodeProto) -> None:
        """Make the twins of a node's outputs."""
        blocked = next((self._blocked[name] for name in node.input if name in self._blocked), None)
        if (compared := self._compared_index(node)) is not None:
            self._twins[node.output[0]] = compared
        elif blocked is not None or node.op_type in _UNKNOWN:
            self._blocked.update(dict.fromkeys(node.output, blocked or node))
        elif node.op_type in _RULES:
            self._twins[node.output[0]] = _RULES[node.op_type](self, node)
        elif node.op_type in _PASSED_OVER:
            self._twins[node.output[0]] = self.twin_of(node.input[0])
        elif node.op_type in _RAMPS:
            self._twins[node.output[0]] = self._bend(self.twin_of(node.input[0]))
        else:
            self._copy(node)

    def twin_of(self, name: str) -> str:
        """The twin of a value; a value that is not rewritten is its own, as a float.

        Raises:
            UnsupportedOperatorError: the value rests on an operator that cannot be relaxed.
        """
        if name in self._blocked:
            node = self._blocked[name]
            raise UnsupportedOperatorError.at(
                operator=node.op_type, domain=node.domain, opset=opset(self._model), node=node.name,
                reason="no gradient can stand in for it",
            )  # fmt: skip
        if name not in self._twins:
            tensor = self._constants.get(name)
            if tensor is not None and tensor.data_type == TensorProto.BOOL:  # true is above the border, false below
                self._twins[name] = self._store(np.where(numpy_helper.to_array(tensor), np.float32(1), np.float32(-1)))
            else:
                self._twins[name] = self.add("Cast", name, to=TensorProto.FLOAT)
        return self._twins[name]

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Add a node; return the name of what it gives first."""
        name = f"{OWN}twin/{len(self._graph.node)}"
        names = [name, *(f"{name}/{index}" for index in range(1, outputs))]
        self._graph.node.append(helper.make_node(operator, list(inputs), names, name=name, **attributes))
        return name

    def and_of(self, *names: str) -> str:
        """Not negative exactly where all are; the gradient reaches every one that is not."""
        terms = [self.add("Min", name, self._zero) for name in names]
        return terms[0] if len(terms) == 1 else self.add("Sum", *terms)

    def above(self, high: str, low: str) -> str:
        """How far one value exceeds another."""
        return self.add("Sub", self.add("Sub", self.twin_of(high), self.twin_of(low)), self._margin)

    def varies(self, name: str) -> bool:
        """Whether a value depends on the image."""
        return name in self._reached

    def position(self, index: int, *, keep: bool) -> str:
        """A constant index along an axis; the axis is kept with length 1, or goes."""
        return self._store(np.array([index] if keep else index, np.int64))

    def axes(self) -> str:
        """As many numbers as a shape may have."""
        return self._store(np.array([_MOST_AXES], np.int64))

    def size_source(self, name: str) -> str:
        """The value whose numbers decide how large another is: that value itself if no node says so."""
        node = self._makers.get(name)
        while node is not None:
            if giving := [given for given in shape_inputs(node) if self.varies(given)]:
                return giving[0]
            name = next((given for given in node.input if self.varies(given)), "")
            node = self._makers.get(name)
        return name

    def add_like(self, node: onnx.NodeProto, operator: str, first: str) -> str:
        """Add a node like another, with its own operator and first input."""
        copy = deepcopy(node)
        copy.op_type, copy.input[0] = operator, first
        copy.name = copy.output[0] = f"{OWN}twin/{len(self._graph.node)}"
        self._graph.node.append(copy)
        return copy.name

    def _compared_index(self, node: onnx.NodeProto) -> str | None:
        """The twin of a comparison of an index with constant places; None where the node is no such comparison."""
        if node.op_type != "Equal":
            return None
        for name, other in (node.input, reversed(node.input)):
            if (source := index_source(name, self._makers, self._constants, other)) is not None:
                maker, places = source
                axis = next((a.i for a in maker.attribute if a.name == "axis"), -1)
                return largest_at(self.twin_of(maker.input[0]), axis, places, self._margin, self.add, self._store)
        return None

    def _bend(self, name: str) -> str:
        """sign(x) log(1 + |x|): rises everywhere, has the same zero, and differences of it still have a gradient."""
        size = self.add("Log", self.add("Add", self.add("Abs", name), self._one))
        return self.add("Mul", self.add("Sign", name), size)

    def _store(self, array: NDArray[Any]) -> str:
        name = f"{OWN}constant/{len(self._graph.initializer)}"
        self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def _copy(self, node: onnx.NodeProto) -> None:
        copy = deepcopy(node)
        for index, name in enumerate(node.input):
            if name and (self.varies(name) or node.op_type in _ARITHMETIC):
                copy.input[index] = self.twin_of(name)
        copy.name = f"{OWN}twin/{len(self._graph.node)}"
        for index, name in enumerate(node.output):
            copy.output[index] = self._twins[name] = f"{OWN}twin/{len(self._graph.node)}/{index}"
        self._graph.node.append(copy)


def _equal(relaxation: _Relaxation, node: onnx.NodeProto) -> str:
    difference = relaxation.add("Sub", *(relaxation.twin_of(name) for name in node.input))
    return relaxation.add("Neg", relaxation.add("Abs", difference))


def _xor(relaxation: _Relaxation, node: onnx.NodeProto) -> str:
    first, second = (relaxation.twin_of(name) for name in node.input)
    only_first = relaxation.add("Min", first, relaxation.add("Neg", second))
    return relaxation.add("Max", only_first, relaxation.add("Min", relaxation.add("Neg", first), second))


def _multiply(relaxation: _Relaxation, node: onnx.NodeProto) -> str:
    """Gates that are multiplied must all be open; a factor scales."""
    twins = [relaxation.twin_of(name) for name in node.input]
    if all(relaxation.varies(name) for name in node.input):
        return relaxation.and_of(*twins)
    return relaxation.add("Mul", *twins)


def _remainder(relaxation: _Relaxation, node: onnx.NodeProto) -> str:
    """The remainder itself: it rises with what is divided, and whole multiples count as constants."""
    whole, divisor = (relaxation.twin_of(name) for name in node.input)
    if relaxation.varies(node.input[1]):
        return whole
    times = relaxation.add("Floor", relaxation.add("Div", whole, divisor))
    # Computed with as whole numbers, which no gradient passes: that of Floor's surrogate would cancel everything.
    fixed = relaxation.add("Neg", relaxation.add("Cast", times, to=TensorProto.INT64))
    return relaxation.add(
        "Add", whole, relaxation.add("Mul", relaxation.add("Cast", fixed, to=TensorProto.FLOAT), divisor)
    )


def _where(relaxation: _Relaxation, node: onnx.NodeProto) -> str:
    condition, first, second = node.input
    if relaxation.varies(first) or relaxation.varies(second):
        return relaxation.twin_of(condition if relaxation.varies(condition) else first)
    # Only the sign of what is chosen counts: constants such as -1e30 would drown everything else.
    difference = relaxation.add("Sub", relaxation.twin_of(first), relaxation.twin_of(second))
    return relaxation.add("Mul", relaxation.twin_of(condition), relaxation.add("Sign", difference))


def _all_of(relaxation: _Relaxation, node: onnx.NodeProto) -> str:
    """The least or the product along an axis is open where all are; the mean takes its axes in the same way."""
    return relaxation.add_like(node, "ReduceMean", relaxation.and_of(relaxation.twin_of(node.input[0])))


def _last_over_first(relaxation: _Relaxation, node: onnx.NodeProto) -> str:
    """The index of the largest rises as what stands last along the axis exceeds what stands first."""
    options = {attribute.name: attribute.i for attribute in node.attribute}
    values = relaxation.twin_of(node.input[0])
    positions = [relaxation.position(index, keep=bool(options.get("keepdims", 1))) for index in (-1, 0)]
    last, first = (relaxation.add("Gather", values, position, axis=options.get("axis", 0)) for position in positions)
    return relaxation.add("Sub", *((last, first) if node.op_type == "ArgMax" else (first, last)))


def _counted(relaxation: _Relaxation, node: onnx.NodeProto) -> str:
    """A size rises with the largest number that decides it; each of its numbers stands for that one."""
    largest = relaxation.add("ReduceMax", relaxation.twin_of(relaxation.size_source(node.input[0])), keepdims=0)
    return relaxation.add("Expand", largest, relaxation.axes())


def _looked_up(relaxation: _Relaxation, node: onnx.NodeProto) -> str:
    """An entry of a table is as open as the index that chooses it; an entry of an image value is that value."""
    data, index = node.input[:2]
    if relaxation.varies(index):
        return relaxation.twin_of(index)
    return relaxation.add_like(node, node.op_type, relaxation.twin_of(data))


_RULES: Mapping[str, Callable[[_Relaxation, onnx.NodeProto], str]] = {
    "And": lambda twin, node: twin.and_of(*map(twin.twin_of, node.input)),
    "ArgMax": _last_over_first,
    "ArgMin": _last_over_first,
    "Equal": _equal,
    "Gather": _looked_up,
    "GatherND": _looked_up,
    "Greater": lambda twin, node: twin.above(node.input[0], node.input[1]),
    "GreaterOrEqual": lambda twin, node: twin.above(node.input[0], node.input[1]),
    "Less": lambda twin, node: twin.above(node.input[1], node.input[0]),
    "LessOrEqual": lambda twin, node: twin.above(node.input[1], node.input[0]),
    "Mod": _remainder,
    "Mul": _multiply,
    "Not": lambda twin, node: twin.add("Neg", twin.twin_of(node.input[0])),
    "Or": lambda twin, node: twin.add("Max", *map(twin.twin_of, node.input)),
    "ReduceMin": _all_of,
    "ReduceProd": _all_of,
    "Shape": _counted,
    "Size": _counted,
    "Where": _where,
    "Xor": _xor,
}
