"""Pools: windows whose values become one, and their global forms."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from backscan.converters.operators.nodes import Function, attribute, converted, has_output, register_all, stateless
from backscan.converters.operators.registry import OnnxGraph, OnnxNode, OperationConverterResult, register
from backscan.converters.operators.windows import Window, pad_spatial, read_window

_MAX_POOLS: dict[int, Function] = {1: torch.max_pool1d, 2: torch.max_pool2d, 3: torch.max_pool3d}
_MAX_POOLS_WITH_PLACES: dict[int, Function] = {
    1: F.max_pool1d_with_indices,
    2: F.max_pool2d_with_indices,
    3: F.max_pool3d_with_indices,
}
_AVERAGE_POOLS: dict[int, Function] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_CONVOLVE: dict[int, Function] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@register("MaxPool", versions=(1, 8, 10, 11, 12, 22))
def convert_max_pool(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Largest value under the window, and its place if the node asks for it."""
    window = _pool_window(node)
    pools = _MAX_POOLS_WITH_PLACES if has_output(node, 1) else _MAX_POOLS
    pool = partial(
        pools[len(window.kernel)], kernel_size=window.kernel, stride=window.strides, dilation=window.dilations
    )
    if has_output(node, 1):
        column_major = bool(attribute(node, "storage_order", 0))
        return converted(node, partial(max_pool_with_places, window=window, pool=pool, column_major=column_major))
    if _torch_can_pad(window) and not window.ceil:
        return converted(node, partial(_max_pool, pool=partial(pool, padding=window.begins)))
    return converted(node, partial(_pad_and_max_pool, window=window, pool=pool))


def _max_pool(values: Tensor, *, pool: Function) -> Tensor:
    result: Tensor = pool(_as_floats(values))
    return result.to(values.dtype)


def _pad_and_max_pool(values: Tensor, *, window: Window, pool: Function) -> Tensor:
    sizes = values.shape[2:]
    padded = pad_spatial(_as_floats(values), window.padding(sizes)[0], window.covering_ends(sizes), -torch.inf)
    result: Tensor = pool(padded)
    return result.to(values.dtype)


def _as_floats(values: Tensor) -> Tensor:
    """Integers as floats, which hold the 8-bit ones that ONNX pools exactly."""
    return values if values.is_floating_point() else values.float()


def max_pool_with_places(
    values: Tensor, *, window: Window, pool: Function, column_major: bool
) -> tuple[Tensor, Tensor]:
    """Largest value under the window and its index in the flattened input.

    Args:
        values: Shape `[N, C, *sizes]`.
        window: The window.
        pool: torch's pool with the window's kernel, strides and dilations.
        column_major: Count an index with the first spatial axis as the fastest instead of the last.

    Returns:
        The pooled values and the index of each among all values of the input.
    """
    sizes = values.shape[2:]
    begins, ends = window.padding(sizes)[0], window.covering_ends(sizes)
    pooled, places = pool(pad_spatial(_as_floats(values), begins, ends, -torch.inf))
    coordinates: list[Tensor] = []
    for size, begin, end in reversed(list(zip(sizes, begins, ends, strict=True))):
        coordinates.insert(0, places % (size + begin + end) - begin)
        places = places // (size + begin + end)
    order = range(len(sizes)) if column_major else reversed(range(len(sizes)))
    index, step = torch.zeros_like(places), 1
    for axis in order:
        index, step = index + coordinates[axis] * step, step * sizes[axis]
    planes = torch.arange(values.shape[0] * values.shape[1], device=values.device) * step
    return pooled.to(values.dtype), index + planes.reshape(*values.shape[:2], *[1] * len(sizes))


@register("AveragePool", versions=(1, 7, 10, 11, 19, 22))
def convert_average_pool(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Mean under the window, of the input's values alone or with those of the padding."""
    return converted(node, average_pool_of(node))


def average_pool_of(node: OnnxNode) -> Function:
    """The average pool that a node's attributes describe, as a function of its input."""
    window = _pool_window(node)
    with_padding = bool(attribute(node, "count_include_pad", 0))
    if _torch_can_pad(window) and not window.ceil and set(window.dilations) == {1}:
        return partial(
            _AVERAGE_POOLS[len(window.kernel)],
            kernel_size=window.kernel,
            stride=window.strides,
            padding=window.begins,
            count_include_pad=with_padding,
        )
    return partial(average_pool, window=window, with_padding=with_padding)


def average_pool(values: Tensor, *, window: Window, with_padding: bool) -> Tensor:
    """Mean under the window for any padding.

    Args:
        values: Shape `[N, C, *sizes]`.
        window: The window.
        with_padding: Whether padding counts as zeros instead of not at all.
    """
    result = window_sums(values, window)
    for axis, count in enumerate(_values_under_window(values, window, with_padding)):
        result = result / count.reshape(-1, *[1] * (len(window.kernel) - 1 - axis))
    return result


def window_sums(values: Tensor, window: Window) -> Tensor:
    """Sum under the window; what lies beyond the input counts as zero."""
    sizes = values.shape[2:]
    rank = len(sizes)
    padded = pad_spatial(values, window.padding(sizes)[0], window.covering_ends(sizes))
    if set(window.dilations) == {1}:
        means: Tensor = _AVERAGE_POOLS[rank](padded, window.kernel, window.strides)
        return means * window.num_taps
    ones = torch.ones((1, 1, *window.kernel), dtype=values.dtype, device=values.device)
    planes = padded.flatten(0, 1).unsqueeze(1)
    sums: Tensor = _CONVOLVE[rank](planes, ones, stride=window.strides, dilation=window.dilations)
    return sums.reshape(*values.shape[:2], *sums.shape[2:])


def _values_under_window(values: Tensor, window: Window, with_padding: bool) -> list[Tensor]:
    """How many taps of each window count, one vector an axis: the count of a window is their product."""
    sizes = values.shape[2:]
    begins, ends = window.padding(sizes)
    counts = []
    for axis, num_windows in enumerate(window.counts(sizes)):
        first, last = (-begins[axis], sizes[axis] + ends[axis]) if with_padding else (0, sizes[axis])
        starts = torch.arange(num_windows, device=values.device) * window.strides[axis] - begins[axis]
        taps = starts[:, None] + torch.arange(window.kernel[axis], device=values.device) * window.dilations[axis]
        counts.append(((taps >= first) & (taps < last)).sum(dim=1).to(values.dtype))
    return counts


@register("LpPool", versions=(1, 2, 11, 18, 22))
def convert_lp_pool(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """p-norm under the window."""
    return converted(node, partial(lp_pool, window=_pool_window(node), order=attribute(node, "p", 2)))


def lp_pool(values: Tensor, *, window: Window, order: float) -> Tensor:
    """p-norm under the window; where all values are zero so is the gradient."""
    sums = window_sums(values.abs().pow(order), window)
    empty = sums == 0
    return torch.where(empty, 0, torch.where(empty, 1, sums).pow(1 / order))


def _spatial_axes(values: Tensor) -> tuple[int, ...]:
    return tuple(range(2, values.dim()))


def global_average_pool(values: Tensor) -> Tensor:
    """Mean over the spatial axes, which stay with size 1."""
    return values.mean(_spatial_axes(values), keepdim=True)


def global_max_pool(values: Tensor) -> Tensor:
    """Largest value over the spatial axes, which stay with size 1."""
    return values.amax(_spatial_axes(values), keepdim=True)


def global_lp_pool(values: Tensor, *, p: int) -> Tensor:
    """p-norm over the spatial axes, which stay with size 1."""
    result: Tensor = torch.linalg.vector_norm(values, p, _spatial_axes(values), keepdim=True)
    return result


register_all(
    {
        "GlobalAveragePool": ((1, 22), stateless(global_average_pool)),
        "GlobalMaxPool": ((1, 22), stateless(global_max_pool)),
        "GlobalLpPool": ((1, 2, 22), stateless(global_lp_pool, p=2)),
    }
)


def _pool_window(node: OnnxNode) -> Window:
    kernel: Sequence[int] = attribute(node, "kernel_shape", ())
    if len(kernel) not in _MAX_POOLS:
        raise ValueError(f"expected 1 to 3 spatial axes, found {len(kernel)}: reshape the model's data to images")
    return read_window(node, kernel, is_pool=True)


def _torch_can_pad(window: Window) -> bool:
    """Whether torch pads like that: on both sides alike, by at most half of the kernel."""
    return window.is_symmetric and all(2 * pad <= size for pad, size in zip(window.begins, window.kernel, strict=True))
