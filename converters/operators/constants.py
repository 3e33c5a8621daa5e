"""Tensors that are made from numbers rather than from data."""

from __future__ import annotations

from functools import partial

import torch
from onnx import TensorProto
from torch import Tensor

from backscan.converters.operators.casts import torch_type
from backscan.converters.operators.nodes import (
    attribute,
    constant,
    constant_ints,
    constant_value,
    converted,
    converted_constant,
    to_torch,
)
from backscan.converters.operators.registry import OnnxGraph, OnnxNode, OperationConverterResult, register


@register("Constant", versions=(1, 9, 11, 12, 13, 19, 21, 23, 24, 25))
def convert_constant(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """A tensor that is stored in the node."""
    return converted_constant(node, to_torch(constant_value(node)))


@register("ConstantOfShape", versions=(9, 20, 21, 23, 24, 25))
def convert_constant_of_shape(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """A tensor of some shape filled with one value; made once where the shape is known."""
    stored = attribute(node, "value", None)
    fill = torch.zeros(1) if stored is None else to_torch(stored.proto)
    shape = constant_ints(node, graph, 0)
    if shape is None:
        return converted(node, partial(filled, fill=fill.item(), dtype=fill.dtype))
    return converted_constant(node, fill.reshape(()).repeat(shape))


def filled(shape: Tensor, *, fill: float, dtype: torch.dtype) -> Tensor:
    """A tensor of a computed shape."""
    return torch.full(shape.tolist(), fill, dtype=dtype, device=shape.device)


@register("Range", versions=(11, 27))
def convert_range(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Numbers from a start to before a limit; made once where all three are known."""
    bounds = [constant(node, graph, index) for index in range(3)]
    known = [bound for bound in bounds if bound is not None]
    return converted_constant(node, number_range(*known)) if len(known) == 3 else converted(node, number_range)


def number_range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """Numbers from `start` to before `limit` in steps of `delta`."""
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype, device=start.device)


@register("EyeLike", versions=(9, 22))
def convert_eye_like(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """A matrix with ones on a diagonal, in a given type or the input's."""
    code = attribute(node, "dtype", TensorProto.UNDEFINED)
    dtype = torch_type(code) if code else None
    return converted(node, partial(eye_like, diagonal=attribute(node, "k", 0), dtype=dtype))


def eye_like(values: Tensor, *, diagonal: int, dtype: torch.dtype | None) -> Tensor:
    """A matrix of the shape of another with ones on the k-th diagonal."""
    rows, columns = (torch.arange(size, device=values.device) for size in values.shape)
    return (columns[None, :] - rows[:, None] == diagonal).to(dtype or values.dtype)
