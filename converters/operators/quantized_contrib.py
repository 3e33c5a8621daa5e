"""Quantised operators that onnxruntime adds to ONNX's: a function of floats between dequantising and quantising."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from backscan.converters.operators.activations import leaky_relu, over_trailing_axes
from backscan.converters.operators.nodes import Argument, Function, argument, attribute, converted
from backscan.converters.operators.pooling import average_pool_of, global_average_pool
from backscan.converters.operators.quantization import constant_grid, dequantize, onto_grid
from backscan.converters.operators.reductions import REDUCTIONS
from backscan.converters.operators.registry import OnnxGraph, OnnxNode, OperationConverterResult, register
from backscan.converters.operators.selection import concatenate

_DOMAIN = "com.microsoft"


@register("QLinearAdd", versions=(1,), domain=_DOMAIN)
def convert_add(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Sum of two quantised tensors."""
    return _between(node, graph, torch.add, operands=(0, 3), output=6)


@register("QLinearMul", versions=(1,), domain=_DOMAIN)
def convert_mul(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Product of two quantised tensors."""
    return _between(node, graph, torch.mul, operands=(0, 3), output=6)


@register("QLinearSigmoid", versions=(1,), domain=_DOMAIN)
def convert_sigmoid(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Sigmoid of a quantised tensor."""
    return _between(node, graph, torch.sigmoid, operands=(0,), output=3)


@register("QLinearLeakyRelu", versions=(1,), domain=_DOMAIN)
def convert_leaky_relu(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Leaky relu of a quantised tensor."""
    function = partial(leaky_relu, alpha=attribute(node, "alpha", 0.01))
    return _between(node, graph, function, operands=(0,), output=3)


@register("QLinearSoftmax", versions=(1,), domain=_DOMAIN)
def convert_softmax(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Softmax of a quantised tensor, in the meaning of the opset that the node names."""
    axis = attribute(node, "axis", -1)
    function: Function = partial(F.softmax, dim=axis)
    if attribute(node, "opset", 13) < 13:
        function = partial(over_trailing_axes, function=F.softmax, axis=axis)
    return _between(node, graph, function, operands=(0,), output=3)


@register("QLinearGlobalAveragePool", versions=(1,), domain=_DOMAIN)
def convert_global_average_pool(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Mean over the pixels of a quantised tensor."""
    _refuse_channels_last(node)
    return _between(node, graph, global_average_pool, operands=(0,), output=3)


@register("QLinearAveragePool", versions=(1,), domain=_DOMAIN)
def convert_average_pool(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Mean under a window over a quantised tensor."""
    _refuse_channels_last(node)
    return _between(node, graph, average_pool_of(node), operands=(0,), output=3)


@register("QLinearReduceMean", versions=(1,), domain=_DOMAIN)
def convert_reduce_mean(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Mean of a quantised tensor over axes."""
    axes, keepdim = tuple(attribute(node, "axes", ())), bool(attribute(node, "keepdims", 1))
    return _between(node, graph, partial(_mean, axes=axes, keepdim=keepdim), operands=(0,), output=3)


def _mean(values: Tensor, *, axes: Sequence[int], keepdim: bool) -> Tensor:
    result: Tensor = REDUCTIONS["ReduceMean"](values, tuple(axes) or tuple(range(values.dim())), keepdim)
    return result


@register("QLinearConcat", versions=(1,), domain=_DOMAIN)
def convert_concat(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Quantised tensors joined along an axis."""
    function = partial(concatenate, axis=attribute(node, "axis", 0))
    return _between(node, graph, function, operands=range(2, len(node.input_values), 3), output=0)


@register("QLinearWhere", versions=(1,), domain=_DOMAIN)
def convert_where(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Choice between two quantised tensors."""
    return _between(node, graph, torch.where, operands=(1, 4), output=7, plain=(0,))


def _between(
    node: OnnxNode,
    graph: OnnxGraph,
    function: Function,
    *,
    operands: Sequence[int],
    output: int,
    plain: Sequence[int] = (),
) -> OperationConverterResult:
    """Convert a quantised operator by its meaning for floats.

    Args:
        node: The node.
        graph: Its graph.
        function: What it does to floats: a function of the plain inputs and then of the operands.
        operands: Places of the quantised inputs; scale and zero point follow each.
        output: Place of the output's scale; its zero point follows.
        plain: Places of inputs that are not quantised.
    """
    scale, grid = constant_grid(node, graph, output, output + 1)
    arguments: list[Argument] = [scale, *grid, *plain]
    for place in operands:
        arguments += [argument(node, graph, place + offset) for offset in range(3)]
    return converted(node, partial(_in_floats, function=function, num_plain=len(plain)), arguments)


def _in_floats(
    scale: Tensor, lowest: Tensor, highest: Tensor, origin: Tensor, *rest: Tensor, function: Function, num_plain: int
) -> Tensor:
    operands = [dequantize(*rest[place : place + 3]) for place in range(num_plain, len(rest), 3)]
    result: Tensor = function(*rest[:num_plain], *operands)
    return onto_grid(result / scale, lowest, highest, origin)


def _refuse_channels_last(node: OnnxNode) -> None:
    if attribute(node, "channels_last", 0):
        raise ValueError("expected channels before pixels, found 'channels_last': use the model before optimisation")
