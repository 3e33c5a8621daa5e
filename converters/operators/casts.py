"""Changes of type. Where a float becomes an integer and a float again, the gradient passes as through any rounding."""

from __future__ import annotations

from functools import partial

import torch
from onnx import TensorProto
from torch import Tensor

from backscan.converters.operators import straight_through
from backscan.converters.operators.nodes import Function, attribute, constant_proto, converted, producer_of
from backscan.converters.operators.registry import OnnxGraph, OnnxMapping, OnnxNode, OperationConverterResult, register
from backscan.converters.operators.thresholds import comparison_behind, step_as

TORCH_TYPES: dict[int, torch.dtype] = {
    TensorProto.BOOL: torch.bool,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
    TensorProto.UINT16: torch.uint16,
    TensorProto.UINT32: torch.uint32,
    TensorProto.UINT64: torch.uint64,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
}


def torch_type(code: int) -> torch.dtype:
    """The torch type of an ONNX element type.

    Raises:
        ValueError: torch cannot compute with that type.
    """
    if code not in TORCH_TYPES:
        name = TensorProto.DataType.Name(code)
        raise ValueError(f"expected a type that torch computes with, found {name}: export the model in float32")
    return TORCH_TYPES[code]


@register("Cast", versions=(6, 9, 13, 19, 21, 23, 24, 25, 28))
def convert_cast(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Change the type; what a comparison or a cast to integers gave becomes differentiable as a float."""
    return _converted_cast(node, graph, torch_type(attribute(node, "to", TensorProto.UNDEFINED)))


@register("CastLike", versions=(15, 19, 21, 23, 24, 25))
def convert_cast_like(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Change the type to that of another tensor, which is read from the file where it says so."""
    example = constant_proto(node, graph, 1)
    if example is not None:
        return _converted_cast(node, graph, torch_type(example.data_type))
    return converted(node, Tensor.type_as)


def _converted_cast(node: OnnxNode, graph: OnnxGraph, dtype: torch.dtype) -> OperationConverterResult:
    comparison = comparison_behind(node, graph, 0)
    if comparison is not None:
        function: Function = partial(step_as, comparison=comparison.operation_type, dtype=dtype)
        return _reading(comparison, node, function)
    earlier = producer_of(node, graph, 0)
    if earlier is not None and earlier.operation_type == "Cast" and dtype.is_floating_point:
        between = torch_type(attribute(earlier, "to", TensorProto.UNDEFINED))
        if not between.is_floating_point and between != torch.bool:
            return _reading(earlier, node, partial(through_integers, between=between, dtype=dtype))
    return converted(node, partial(Tensor.to, dtype=dtype), [0])


def through_integers(values: Tensor, *, between: torch.dtype, dtype: torch.dtype) -> Tensor:
    """Cast to an integer type and on to a float type, with a straight-through gradient."""
    return straight_through.rounded(values, partial(_there_and_back, between=between)).to(dtype)


def _there_and_back(values: Tensor, *, between: torch.dtype) -> Tensor:
    return values.to(between).to(values.dtype)


def _reading(producer: OnnxNode, node: OnnxNode, function: Function) -> OperationConverterResult:
    """Wrap a function that takes the producer's inputs instead of the node's own."""
    module = converted(node, function).torch_module
    return OperationConverterResult(module, OnnxMapping(inputs=producer.input_values, outputs=node.output_values))
