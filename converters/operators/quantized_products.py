"""Convolutions and matrix products of quantised tensors.

The weight's zero point is subtracted once, at conversion. Zero points of the input are subtracted before the product,
so that padding with zero means what it should.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from backscan.converters.operators.convolutions import convolution, kernel_of
from backscan.converters.operators.matrices import gemm
from backscan.converters.operators.nodes import (
    Argument,
    Function,
    argument,
    attribute,
    constant,
    converted,
    has_input,
)
from backscan.converters.operators.quantization import constant_grid, onto_grid
from backscan.converters.operators.registry import OnnxGraph, OnnxNode, OperationConverterResult, register


def centred(values: Tensor, zero_point: Tensor | None) -> Tensor:
    """Quantised numbers as floats around their zero point."""
    values = values if values.is_floating_point() else values.float()
    return values if zero_point is None else values - zero_point.to(values.dtype)


def _weight(node: OnnxNode, graph: OnnxGraph, index: int, zero_point: int, *, axis: int) -> Tensor:
    """A stored weight as floats around its zero point, which may differ along an axis.

    Raises:
        ValueError: weight or zero point is computed.
    """
    weight, origin = constant(node, graph, index), constant(node, graph, zero_point)
    if weight is None or (origin is None and has_input(node, zero_point)):
        raise ValueError("expected a constant quantised weight, found a computed one: fold the constants of the model")
    if origin is not None and origin.numel() > 1:
        origin = _along(origin, weight, axis)
    return centred(weight, None if origin is None else origin)


def _along(parameter: Tensor, values: Tensor, axis: int) -> Tensor:
    return parameter.reshape(-1, *[1] * (values.dim() - 1 - axis % values.dim()))


@register("ConvInteger", versions=(10,))
def convert_conv_integer(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Convolution of quantised numbers, not rescaled."""
    weight = _weight(node, graph, 1, 3, axis=0)
    function = partial(_convolve_centred, convolve=convolution(node, kernel_of(node, graph)))
    return converted(node, function, [0, argument(node, graph, 2), weight])


def _convolve_centred(values: Tensor, origin: Tensor | None, weight: Tensor, *, convolve: Function) -> Tensor:
    result: Tensor = convolve(centred(values, origin), weight)
    return result


@register("MatMulInteger", versions=(10,))
def convert_matmul_integer(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Matrix product of quantised numbers, not rescaled."""
    return converted(node, _multiply_centred, _factors(node, graph, (0, 2), (1, 3)))


def _multiply_centred(left: Tensor, left_origin: Tensor | None, right: Tensor, right_origin: Tensor | None) -> Tensor:
    return centred(left, left_origin) @ centred(right, right_origin)


def _factors(node: OnnxNode, graph: OnnxGraph, left: tuple[int, int], right: tuple[int, int]) -> list[Argument]:
    """Both factors of a matrix product, each with its zero point; a stored factor is centred at once.

    Args:
        node: A product of quantised matrices.
        graph: Its graph.
        left: Places of the left factor and its zero point, one a tensor or a row.
        right: Places of the right factor and its zero point, one a tensor or a column.
    """
    arguments: list[Argument] = []
    for (place, zero_point), shape in zip((left, right), ((-1, 1), (1, -1)), strict=True):
        origin = argument(node, graph, zero_point)
        if isinstance(origin, Tensor):
            origin = origin.reshape(shape) if origin.numel() > 1 else origin.reshape(())
        value = argument(node, graph, place)
        if isinstance(value, Tensor) and not isinstance(origin, int):
            value, origin = centred(value, origin), None
        arguments += [value, origin]
    return arguments


@register("QLinearConv", versions=(10,))
@register("QLinearConv", versions=(1,), domain="com.microsoft")
def convert_qlinear_conv(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Convolution of quantised numbers, rescaled to the output's quantisation."""
    if attribute(node, "channels_last", 0):
        raise ValueError("expected channels before pixels, found 'channels_last': use the model before optimisation")
    weight = _weight(node, graph, 3, 5, axis=0)
    scale, grid = constant_grid(node, graph, 6, 7)
    factor = _product_scale(node, graph) / scale
    factor = _along(factor, weight[0], 0) if factor.numel() > 1 else factor
    bias = constant(node, graph, 8)
    function = partial(_rescaled, product=convolution(node, tuple(weight.shape[2:])))
    return converted(
        node, function, [0, argument(node, graph, 2), weight, None if bias is None else bias.float(), factor, *grid]
    )


@register("QLinearMatMul", versions=(10, 21))
def convert_qlinear_matmul(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Matrix product of quantised numbers, rescaled to the output's quantisation."""
    scale, grid = constant_grid(node, graph, 6, 7)
    factors = _factors(node, graph, (0, 2), (3, 5))
    return converted(node, _qlinear_matmul, [*factors, _product_scale(node, graph) / scale, *grid])


def _qlinear_matmul(
    left: Tensor,
    left_origin: Tensor | None,
    right: Tensor,
    right_origin: Tensor | None,
    factor: Tensor,
    *grid: Tensor,
) -> Tensor:
    return onto_grid(_multiply_centred(left, left_origin, right, right_origin) * factor, *grid)


@register("QGemm", versions=(1,), domain="com.microsoft")
def convert_qgemm(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Compute alpha A B + C of quantised matrices; rescaled to the output's quantisation, or a float without one."""
    product = partial(
        gemm,
        alpha=1.0,
        beta=1.0,
        transpose_left=bool(attribute(node, "transA", 0)),
        transpose_right=bool(attribute(node, "transB", 0)),
    )
    weight = _weight(node, graph, 3, 5, axis=0 if attribute(node, "transB", 0) else 1)
    bias = constant(node, graph, 6)
    factor = _product_scale(node, graph) * attribute(node, "alpha", 1.0)
    grid: list[Tensor] = []
    if has_input(node, 7):
        scale, grid = constant_grid(node, graph, 7, 8)
        factor = factor / scale
    offset = None if bias is None else bias.float()
    arguments: list[Argument] = [0, argument(node, graph, 2), weight, offset, factor, *grid]
    return converted(node, partial(_rescaled, product=product), arguments)


def _rescaled(
    values: Tensor,
    origin: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    factor: Tensor,
    *grid: Tensor,
    product: Function,
) -> Tensor:
    """The product of quantised tensors on the grid of the output; a float where there is none."""
    result: Tensor = product(centred(values, origin), weight, bias) * factor
    return onto_grid(result, *grid) if grid else result


def _product_scale(node: OnnxNode, graph: OnnxGraph) -> Tensor:
    """Scale of the products of two quantised tensors: a scalar, or one per channel or column of the right one.

    Raises:
        ValueError: a scale is computed, or the left tensor has several.
    """
    scales = [constant(node, graph, index) for index in (1, 4)]
    if scales[0] is None or scales[1] is None or scales[0].numel() != 1:
        raise ValueError("expected constant scales, one for the input, found others: quantise activations per tensor")
    return scales[0].reshape(()) * scales[1].reshape(-1 if scales[1].numel() > 1 else ())
