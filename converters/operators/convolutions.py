"""Conv and ConvTranspose with every padding that ONNX allows; weights may be constant or computed."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor

from backscan.converters.operators.nodes import Function, attribute, converted, known_shape
from backscan.converters.operators.registry import OnnxGraph, OnnxNode, OperationConverterResult, register
from backscan.converters.operators.windows import Window, pad_spatial, read_window

_CONVOLVE: dict[int, Function] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONVOLVE_TRANSPOSED: dict[int, Function] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@register("Conv", versions=(1, 11, 22))
def convert_conv(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Convolution; padding that torch cannot express is put on the input first."""
    return converted(node, convolution(node, kernel_of(node, graph)))


def convolution(node: OnnxNode, kernel: tuple[int, ...]) -> Function:
    """The convolution of a node as a function of input, weight and, if there is one, bias."""
    window = read_window(node, kernel)
    convolve = partial(
        _by_rank(_CONVOLVE, len(kernel)),
        stride=window.strides,
        dilation=window.dilations,
        groups=attribute(node, "group", 1),
    )
    if window.is_symmetric:
        return partial(convolve, padding=window.begins)
    return partial(_pad_and_convolve, window=window, convolve=convolve)


def _pad_and_convolve(
    values: Tensor, weight: Tensor, bias: Tensor | None = None, *, window: Window, convolve: Function
) -> Tensor:
    begins, ends = window.padding(values.shape[2:])
    result: Tensor = convolve(pad_spatial(values, begins, ends), weight, bias)
    return result


@register("ConvTranspose", versions=(1, 11, 22))
def convert_conv_transpose(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Transposed convolution, whose padding crops the output."""
    window = read_window(node, kernel_of(node, graph))
    rank = len(window.kernel)
    extra = tuple(attribute(node, "output_padding", [0] * rank))
    size = attribute(node, "output_shape", None)
    convolve = partial(
        _by_rank(_CONVOLVE_TRANSPOSED, rank),
        stride=window.strides,
        dilation=window.dilations,
        groups=attribute(node, "group", 1),
    )
    reach = [max(pair) for pair in zip(window.strides, window.dilations, strict=True)]
    if size is None and window.is_symmetric and all(amount < limit for amount, limit in zip(extra, reach, strict=True)):
        return converted(node, partial(convolve, padding=window.begins, output_padding=extra))
    sizes = None if size is None else tuple(size[-rank:])
    return converted(
        node, partial(_convolve_and_crop, window=window, extra=extra, output_sizes=sizes, convolve=convolve)
    )


def _convolve_and_crop(
    values: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    window: Window,
    extra: tuple[int, ...],
    output_sizes: tuple[int, ...] | None,
    convolve: Function,
) -> Tensor:
    begins, ends = window.begins, window.ends
    if output_sizes is not None or window.depends_on_size:
        begins, ends = _transposed_padding(values.shape[2:], window, extra, output_sizes)
    full: Tensor = convolve(values, weight)
    grown = tuple(amount - end for amount, end in zip(extra, ends, strict=True))
    cropped = pad_spatial(full, [-begin for begin in begins], grown)
    # Last, because the positions that the crop added have a bias too.
    return cropped if bias is None else cropped + bias.reshape(-1, *[1] * len(begins))


def _transposed_padding(
    sizes: tuple[int, ...], window: Window, extra: tuple[int, ...], output_sizes: tuple[int, ...] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding that gives the wanted output size, or input size times stride if none is wanted."""
    axes = zip(sizes, window.strides, window.extents, extra, strict=True)
    full = [(size - 1) * stride + extent + amount for size, stride, extent, amount in axes]
    wanted = output_sizes or tuple(size * stride for size, stride in zip(sizes, window.strides, strict=True))
    totals = [have - want for have, want in zip(full, wanted, strict=True)]
    upper = window.auto_pad == "SAME_UPPER"
    begins = tuple(total // 2 if upper else total - total // 2 for total in (max(total, 0) for total in totals))
    # Where even the full output is too small, a stated size is reached at the end, a SAME size not at all.
    totals = totals if output_sizes is not None else [max(total, 0) for total in totals]
    return begins, tuple(total - begin for total, begin in zip(totals, begins, strict=True))


def kernel_of(node: OnnxNode, graph: OnnxGraph, *, weight: int = 1) -> tuple[int, ...]:
    """Extent of the kernel along each spatial axis.

    Args:
        node: A convolution.
        graph: Its graph.
        weight: Position of the weight among the inputs.

    Raises:
        ValueError: the weight is computed and nothing tells its shape.
    """
    kernel = attribute(node, "kernel_shape", None)
    if kernel:
        return tuple(kernel)
    shape = known_shape(node, graph, weight)
    if shape is None:
        raise ValueError(
            "expected a constant weight or the attribute 'kernel_shape', found neither: "
            "fold the constants of the model, or export it with kernel_shape"
        )
    return shape[2:]


def _by_rank(functions: dict[int, Function], rank: int) -> Function:
    if rank not in functions:
        raise ValueError(f"expected 1 to 3 spatial axes, found {rank}: reshape the model's data to images")
    return functions[rank]
