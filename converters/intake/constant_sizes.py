"""How large a graph's tensors become by constants alone: shapes to fill, repetitions, paddings, turns of loops.

A file of a hundred bytes can ask for a tensor of 10^12 elements. Where the size is computed from the image it is the
memory limit of the sandbox that holds.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from onnx import NodeProto, TensorProto

from backscan.converters.intake.violations import Violations, shown

Numbers = tuple[float, ...]
Constants = ChainMap[str, Numbers]
"""Names of short constant tensors -> their values."""

_MAX_NUMBERS = 64
_CODES: Mapping[int, tuple[str, str]] = {
    TensorProto.INT64: ("<i8", "int64_data"),
    TensorProto.INT32: ("<i4", "int32_data"),
    TensorProto.FLOAT: ("<f4", "float_data"),
    TensorProto.DOUBLE: ("<f8", "double_data"),
}
_WINDOW_ATTRIBUTES = frozenset(
    ("pads", "kernel_shape", "strides", "dilations", "output_padding", "output_shape", "blocksize", "group", "size")
)


def read_constants(initializers: Iterable[TensorProto], nodes: Iterable[NodeProto]) -> dict[str, Numbers]:
    """Short constant tensors of one graph by name."""
    found: dict[str, Numbers | None] = {tensor.name: _numbers(tensor) for tensor in initializers}
    for node in nodes:
        if node.op_type == "Constant" and len(node.output) == 1 and len(node.attribute) == 1:
            found[node.output[0]] = _attribute_numbers(node)
    return {name: numbers for name, numbers in found.items() if numbers is not None}


def check_sizes(node: NodeProto, constants: Mapping[str, Numbers], violations: Violations) -> None:
    """Note a node that makes something larger than the policy allows, from its constants alone."""
    where = f"node {shown(node.name)} ({shown(node.op_type)})"
    for attribute in node.attribute:
        if attribute.name in _WINDOW_ATTRIBUTES:
            largest = max((abs(size) for size in (*attribute.ints, attribute.i)), default=0)
            violations.bound("max_window", largest, f"in {shown(attribute.name)} of {where}")
    for position, measure in _GROWTH.get(node.op_type, ()):
        numbers = _input(node, position, constants)
        if numbers is not None:
            violations.bound("max_elements", measure(numbers), f"elements made by {where}")
    if node.op_type == "Range":
        parts = [_input(node, position, constants) for position in range(3)]
        violations.bound("max_elements", _range_length(parts), f"elements made by {where}")


def trip_count(node: NodeProto, constants: Mapping[str, Numbers]) -> int | None:
    """Turns of a loop if they are a constant, else None."""
    numbers = _input(node, 0, constants)
    return max(0, int(numbers[0])) if numbers else None


def _product(numbers: Numbers) -> int:
    return math.prod(max(1, _whole(number)) for number in numbers)


def _largest(numbers: Numbers) -> int:
    return max((abs(_whole(number)) for number in numbers), default=0)


# Operator -> the inputs that say how large the output becomes, and how.
_GROWTH: Mapping[str, Sequence[tuple[int, Callable[[Numbers], int]]]] = {
    "ConstantOfShape": ((0, _product),),
    "Expand": ((1, _product),),
    "Tile": ((1, _product),),
    "Pad": ((1, _largest),),
    "Resize": ((2, _product), (3, _product)),
    "Upsample": ((1, _product),),
    "OneHot": ((1, _largest),),
    "CenterCropPad": ((1, _product),),
    "Col2Im": ((1, _product),),
    "AffineGrid": ((1, _product),),
}


def _range_length(parts: Sequence[Numbers | None]) -> int:
    if not all(parts):
        return 0
    start, limit, delta = (part[0] for part in parts if part)
    return _whole((limit - start) / delta) if delta else 0


def _whole(number: float) -> int:
    if math.isnan(number):
        return 0
    return int(min(max(number, -1e18), 1e18))


def _input(node: NodeProto, position: int, constants: Mapping[str, Numbers]) -> Numbers | None:
    return constants.get(node.input[position]) if position < len(node.input) else None


def _attribute_numbers(node: NodeProto) -> Numbers | None:
    attribute = node.attribute[0]
    if attribute.HasField("t"):
        return _numbers(attribute.t)
    listed = (*attribute.ints[:_MAX_NUMBERS], *attribute.floats[:_MAX_NUMBERS])
    return listed or (attribute.i or attribute.f,)


def _numbers(tensor: TensorProto) -> Numbers | None:
    """Values of a tensor of few numbers that lies in the file, or None."""
    dtype, field = _CODES.get(tensor.data_type, ("", ""))
    if not dtype or len(tensor.dims) > 1 or (tensor.dims and not 0 < tensor.dims[0] <= _MAX_NUMBERS):
        return None
    if not tensor.HasField("raw_data"):
        return tuple(getattr(tensor, field)[:_MAX_NUMBERS]) or None
    raw = tensor.raw_data
    if len(raw) % np.dtype(dtype).itemsize:
        return None
    return tuple(np.frombuffer(raw, dtype).tolist()) or None
