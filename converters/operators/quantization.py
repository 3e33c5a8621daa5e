"""From floats to quantised numbers and back, with straight-through gradients.

A quantised tensor is a float tensor that holds whole numbers: an integer tensor could carry no gradient. float32
holds every sum up to 2^24 exactly; beyond that, rounding is far below a quantisation step.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor

from backscan.converters.operators import straight_through
from backscan.converters.operators.casts import torch_type
from backscan.converters.operators.nodes import (
    Argument,
    argument,
    attribute,
    constant,
    constant_proto,
    converted,
    converted_constant,
    has_input,
    producer_of,
    register_all,
    stateless,
)
from backscan.converters.operators.registry import OnnxGraph, OnnxMapping, OnnxNode, OperationConverterResult, register

Limits = tuple[int, int]

LIMITS: dict[int, Limits] = {
    TensorProto.INT2: (-2, 1),
    TensorProto.UINT2: (0, 3),
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-32768, 32767),
    TensorProto.UINT16: (0, 65535),
}
"""Range of each quantised type."""

_QUANTIZE_VERSIONS = (10, 13, 19, 21, 23, 24, 25, 28)


def limits_of(node: OnnxNode, graph: OnnxGraph, zero_point: int) -> Limits:
    """Range of the quantised type that a node's zero point has; without one it is uint8 or what the node states.

    Args:
        node: A node that quantises.
        graph: Its graph.
        zero_point: Place of the zero point among the inputs.

    Raises:
        ValueError: the type is not an integer, such as float8.
    """
    code = _type_of(node, graph, zero_point)
    if code not in LIMITS:
        name = TensorProto.DataType.Name(code)
        raise ValueError(f"expected an integer type of 2 to 16 bits, found {name}: quantise the model to int8")
    return LIMITS[code]


def _type_of(node: OnnxNode, graph: OnnxGraph, zero_point: int) -> int:
    proto = constant_proto(node, graph, zero_point)
    if proto is not None:
        return int(proto.data_type)
    if has_input(node, zero_point) and node.input_values[zero_point] in graph.value_info:
        return int(graph.value_info[node.input_values[zero_point]].type.tensor_type.elem_type)
    return int(attribute(node, "output_dtype", TensorProto.UNDEFINED)) or TensorProto.UINT8


def quantize(
    values: Tensor, scale: Tensor, zero_point: Tensor | None = None, *, limits: Limits, axis: int = 1, block: int = 0
) -> Tensor:
    """Quantise: the nearest whole number of steps, plus the zero point, within the type's range.

    Args:
        values: Any shape.
        scale: Size of a step: a scalar, one for each entry of `axis`, or one for each block along it.
        zero_point: What zero becomes, in the shape of `scale`; None for 0.
        limits: Range of the type.
        axis: Axis that scales belong to.
        block: How many entries of the axis share a scale; 0 if scales do not belong to blocks.

    Returns:
        Whole numbers in the type of `scale`.
    """
    steps = values.to(scale.dtype) / spread(scale, values, axis, block)
    origin = torch.zeros_like(scale) if zero_point is None else zero_point.to(scale.dtype)
    origin = spread(origin, values, axis, block)
    return straight_through.to_grid(steps, limits[0] - origin, limits[1] - origin) + origin


def dequantize(
    values: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block: int = 0,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Turn quantised numbers into the values they stand for; arguments as for `quantize`."""
    steps = values.to(scale.dtype)
    if zero_point is not None:
        steps = steps - spread(zero_point.to(scale.dtype), values, axis, block)
    result = steps * spread(scale, values, axis, block)
    return result if dtype is None else result.to(dtype)


def onto_grid(steps: Tensor, lowest: Tensor, highest: Tensor, origin: Tensor) -> Tensor:
    """Quantise what is already counted in steps of the scale; the last three arguments are a `constant_grid`."""
    return straight_through.to_grid(steps, lowest, highest) + origin


def constant_grid(node: OnnxNode, graph: OnnxGraph, scale: int, zero_point: int) -> tuple[Tensor, list[Tensor]]:
    """The quantisation of an output whose scale and zero point are stored.

    Args:
        node: A node that quantises its output.
        graph: Its graph.
        scale: Place of the output's scale among the inputs.
        zero_point: Place of the output's zero point.

    Returns:
        The scale, and what `onto_grid` wants: least and greatest number of steps, and the zero point.

    Raises:
        ValueError: scale or zero point is computed.
    """
    step, origin = constant(node, graph, scale), constant(node, graph, zero_point)
    if step is None or (origin is None and has_input(node, zero_point)):
        raise ValueError("expected a constant scale and zero point, found computed ones: fold the model's constants")
    low, high = limits_of(node, graph, zero_point)
    zero = torch.zeros_like(step) if origin is None else origin.to(step.dtype)
    return step.reshape(()), [low - zero.reshape(()), high - zero.reshape(()), zero.reshape(())]


def spread(parameter: Tensor, values: Tensor, axis: int, block: int) -> Tensor:
    """Give a scale or zero point a shape that broadcasts to the values."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    axis = axis % values.dim()
    if block and parameter.dim() == values.dim():
        return parameter.repeat_interleave(block, axis).narrow(axis, 0, values.shape[axis])
    return parameter.reshape(-1, *[1] * (values.dim() - 1 - axis))


@register("QuantizeLinear", versions=_QUANTIZE_VERSIONS)
@register("QuantizeLinear", versions=(1,), domain="com.microsoft")
def convert_quantize(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Quantise per tensor, per axis or per block."""
    function = partial(quantize, limits=limits_of(node, graph, 2), **_granularity(node))
    return converted(node, function, [0, argument(node, graph, 1), argument(node, graph, 2)])


@register("DequantizeLinear", versions=_QUANTIZE_VERSIONS)
@register("DequantizeLinear", versions=(1,), domain="com.microsoft")
def convert_dequantize(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Dequantise; stored weights at once, and what was just quantised in one step with that."""
    code = attribute(node, "output_dtype", TensorProto.UNDEFINED)
    function = partial(dequantize, dtype=torch_type(code) if code else None, **_granularity(node))
    arguments: list[Argument] = [argument(node, graph, index) for index in range(3)]
    known = [item for item in arguments if isinstance(item, Tensor)]
    if len(known) == len([index for index in range(3) if has_input(node, index)]):
        return converted_constant(node, function(*known))
    producer = producer_of(node, graph, 0)
    if producer is not None and _undoes(node, producer, graph):
        return _fake_quantized(node, producer, graph)
    return converted(node, function, arguments)


def _granularity(node: OnnxNode) -> dict[str, Any]:
    return {"axis": attribute(node, "axis", 1), "block": attribute(node, "block_size", 0)}


def _undoes(node: OnnxNode, producer: OnnxNode, graph: OnnxGraph) -> bool:
    """Whether a node dequantises just what its producer quantised, by one constant scale and zero point."""
    if producer.operation_type != "QuantizeLinear" or attribute(node, "output_dtype", 0):
        return False
    pairs = [(constant(node, graph, index), constant(producer, graph, index)) for index in (1, 2)]
    return all(
        mine is not None and theirs is not None and mine.numel() == 1 and torch.equal(mine, theirs)
        for mine, theirs in pairs
    )


def _fake_quantized(node: OnnxNode, producer: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    scale, (lowest, highest, _) = constant_grid(producer, graph, 1, 2)
    module = converted(producer, fake_quantize, [0, scale, lowest, highest]).torch_module
    return OperationConverterResult(module, OnnxMapping(inputs=producer.input_values[:1], outputs=node.output_values))


def fake_quantize(values: Tensor, scale: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """Quantise and dequantise at once: the nearest multiple of `scale` between `lowest` and `highest` steps."""
    return straight_through.to_grid(values.to(scale.dtype) / scale, lowest, highest) * scale


def dynamic_quantize(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise to uint8 by a scale and zero point that just hold the values and zero; both count as constants."""
    with torch.no_grad():
        low, high = values.min().clamp(max=0), values.max().clamp(min=0)
        scale = (high - low) / 255
        scale = torch.where(scale == 0, 1, scale)
        zero_point = (-low / scale).round().clamp(0, 255)
    return quantize(values, scale, zero_point, limits=LIMITS[TensorProto.UINT8]), scale, zero_point


register_all({"DynamicQuantizeLinear": ((11,), stateless(dynamic_quantize))})
