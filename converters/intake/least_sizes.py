"""How large values must at least become: a concatenation of a value with itself, forty times over, fills any memory.

Every node is looked at once, in the order of the file. What nothing is known of counts as one element, so no model is
refused that could run within the limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from onnx import GraphProto, NodeProto

from backscan.converters.graph import operators
from backscan.converters.intake.constant_sizes import Numbers
from backscan.converters.intake.violations import Violations, shown

_MAX_AXES = 32  # more are refused elsewhere

_ELEMENTWISE = operators(
    "Abs Add And Cast CastLike Ceil Celu Clip Div Dropout Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual "
    "HardSigmoid HardSwish Identity LeakyRelu Less LessOrEqual Log Max Mean Min Mul Neg Not Or Pow Reciprocal Relu "
    "Round Selu Sigmoid Sign Softplus Softsign Sqrt Sub Sum Tanh Where Xor"
)
"""Operators whose output is at least as large as each of their inputs."""
_MOVING = operators("DepthToSpace Flatten LogSoftmax Reshape Softmax SpaceToDepth Squeeze Transpose Unsqueeze")
"""Operators whose output is as large as their first input."""


def check_least_sizes(
    nodes: Iterable[NodeProto], given: Mapping[str, int], constants: Mapping[str, Numbers], violations: Violations
) -> None:
    """Note nodes that make more elements than the policy allows, whatever the image is.

    Args:
        nodes: The nodes of a graph or function.
        given: Elements of stored tensors and inputs.
        constants: Short constants, which say how often something is repeated.
        violations: Takes what is found.
    """
    sizes = dict(given)
    for node in nodes:
        inputs = [sizes.get(name, 1) for name in node.input if name]
        if not inputs or not node.output:
            continue
        least = _least(node, inputs, constants)
        sizes[node.output[0]] = least
        where = f"node {shown(node.name)} ({shown(node.op_type)})"
        if least > max(inputs) and not violations.bound("max_elements", least, f"elements made by {where}"):
            return  # what reads it is larger still


def least_sizes(graph: GraphProto) -> dict[str, int]:
    """Elements of the stored tensors of a graph, and of its inputs with unknown lengths taken as one."""
    given = {value.name: _elements(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in graph.input}
    return given | {tensor.name: _elements(tensor.dims) for tensor in graph.initializer}


def _elements(dims: Iterable[int]) -> int:
    return math.prod(max(1, size) for size in islice(dims, _MAX_AXES))


def _least(node: NodeProto, inputs: Sequence[int], constants: Mapping[str, Numbers]) -> int:
    if node.op_type in _ELEMENTWISE:
        return max(inputs)
    if node.op_type in _MOVING:
        return inputs[0]
    if node.op_type == "Concat":
        return sum(inputs)
    measure = _FACTORS.get(node.op_type)
    return inputs[0] * measure(node, constants) if measure else 1


def _repeats(node: NodeProto, position: int, constants: Mapping[str, Numbers]) -> int:
    """Product of a constant's whole numbers; 1 where it is none, or has others."""
    numbers: Sequence[float] = constants.get(node.input[position], ()) if position < len(node.input) else ()
    if not all(number >= 1 and number == math.floor(number) for number in numbers):  # NaN is neither
        return 1
    return math.prod(int(min(number, 1e18)) for number in numbers)


_FACTORS: Mapping[str, Callable[[NodeProto, Mapping[str, Numbers]], int]] = {
    "Resize": lambda node, constants: _repeats(node, 2, constants),
    "Tile": lambda node, constants: _repeats(node, 1, constants),
    "Upsample": lambda node, constants: _repeats(node, 1, constants),
}
"""Operator -> how many times larger than its first input its output is."""
