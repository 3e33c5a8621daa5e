"""Operators that move values without changing them, and those that tell the shape of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor

from backscan.converters.operators.nodes import (
    Function,
    attribute,
    constant,
    constant_ints,
    converted,
    has_input,
    has_output,
    register_all,
    stateless,
)
from backscan.converters.operators.registry import (
    ConverterFunction,
    OnnxGraph,
    OnnxNode,
    OperationConverterResult,
    register,
)

_TYPE_VERSIONS = (13, 19, 21, 23, 24, 25)
"""Schema versions that only widened the types of the shape operators."""


@register("Reshape", versions=(5, 13, 14, 19, 21, 23, 24, 25))
def convert_reshape(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Reshape; a size of 0 copies the input's, unless `allowzero` says that it means zero."""
    shape = constant_ints(node, graph, 1)
    literal = bool(attribute(node, "allowzero", 0))
    if shape is None:
        return converted(node, partial(reshape_computed, literal=literal))
    if literal or 0 not in shape:
        return converted(node, partial(torch.reshape, shape=shape), [0])
    return converted(node, partial(reshape_copying, shape=shape), [0])


def reshape_computed(values: Tensor, shape: Tensor, *, literal: bool) -> Tensor:
    """Reshape to a computed shape, whose zeros copy the input's size unless they are literal."""
    sizes = shape.tolist()
    return values.reshape(sizes) if literal else reshape_copying(values, shape=sizes)


def reshape_copying(values: Tensor, *, shape: Sequence[int]) -> Tensor:
    """Reshape to a shape whose zeros copy the input's size."""
    return values.reshape([size or values.shape[axis] for axis, size in enumerate(shape)])


def flatten(values: Tensor, *, axis: int) -> Tensor:
    """Make a matrix whose rows are the axes before `axis` and whose columns are the rest."""
    split = axis + values.dim() if axis < 0 else axis
    return values.reshape(prod(values.shape[:split]), prod(values.shape[split:]))


def transpose(values: Tensor, *, perm: list[int] | None) -> Tensor:
    """Permute the axes; reverse them if no order is given."""
    return values.permute(perm if perm is not None else tuple(range(values.dim() - 1, -1, -1)))


def squeeze(values: Tensor, *, axes: Sequence[int] | None) -> Tensor:
    """Drop axes of size 1, all of them if none are named."""
    return values.squeeze() if axes is None else values.squeeze(tuple(axes))


def unsqueeze(values: Tensor, *, axes: Sequence[int]) -> Tensor:
    """Add axes of size 1 at these places of the result."""
    rank = values.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        values = values.unsqueeze(axis)
    return values


def _over_axes(function: Function) -> ConverterFunction:
    """Converter of a function of `axes` that are an attribute or an input."""

    def convert(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
        axes = constant_ints(node, graph, 1)
        if has_input(node, 1) and axes is None:
            return converted(node, partial(_with_computed_axes, function=function))
        fixed = attribute(node, "axes", None) if axes is None else axes
        return converted(node, partial(function, axes=fixed), [0])

    return convert


def _with_computed_axes(values: Tensor, axes: Tensor, *, function: Function) -> Tensor:
    result: Tensor = function(values, axes=axes.reshape(-1).tolist())
    return result


@register("Expand", versions=(8, 13))
def convert_expand(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Broadcast with a shape; a size of 1 in it keeps the input's."""
    shape = constant_ints(node, graph, 1)
    if shape is None:
        return converted(node, expand_computed)
    return converted(node, partial(expand, shape=shape), [0])


def expand(values: Tensor, *, shape: Sequence[int]) -> Tensor:
    """Broadcast values and shape with each other."""
    # A size of 1 keeps the input's; axes that the input lacks come before its own.
    own = (1,) * (len(shape) - values.dim()) + tuple(values.shape)
    rest = (1,) * (values.dim() - len(shape)) + tuple(shape)
    return values.expand([size if wanted == 1 else wanted for size, wanted in zip(own, rest, strict=True)])


def expand_computed(values: Tensor, shape: Tensor) -> Tensor:
    """Broadcast with a computed shape."""
    return expand(values, shape=shape.tolist())


@register("Tile", versions=(6, 13))
def convert_tile(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Repeat the tensor along each axis."""
    repeats = constant_ints(node, graph, 1)
    if repeats is None:
        return converted(node, tile_computed)
    return converted(node, partial(torch.tile, dims=repeats), [0])


def tile_computed(values: Tensor, repeats: Tensor) -> Tensor:
    """Repeat by computed numbers."""
    return values.repeat(repeats.tolist())


def shape_of(values: Tensor, *, start: int, end: int | None) -> Tensor:
    """Sizes of the axes from `start` to before `end`."""
    return torch.tensor(values.shape[start:end], dtype=torch.int64, device=values.device)


def size_of(values: Tensor) -> Tensor:
    """Number of values."""
    return torch.tensor(values.numel(), device=values.device)


def depth_to_space(values: Tensor, *, blocksize: int, mode: str) -> Tensor:
    """Spread channels over blocks of pixels; `DCR` has the place in the block as the slower part of the channel."""
    batch, channels, height, width = values.shape
    depth = channels // blocksize**2
    if mode == "CRD":
        parts = values.reshape(batch, depth, blocksize, blocksize, height, width).permute(0, 1, 4, 2, 5, 3)
    else:
        parts = values.reshape(batch, blocksize, blocksize, depth, height, width).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(batch, depth, height * blocksize, width * blocksize)


def space_to_depth(values: Tensor, *, blocksize: int, mode: str) -> Tensor:
    """Gather blocks of pixels as channels, the inverse of `depth_to_space`."""
    batch, depth, height, width = values.shape
    parts = values.reshape(batch, depth, height // blocksize, blocksize, width // blocksize, blocksize)
    order = (0, 1, 3, 5, 2, 4) if mode == "CRD" else (0, 3, 5, 1, 2, 4)
    return parts.permute(order).reshape(batch, depth * blocksize**2, height // blocksize, width // blocksize)


def identity(values: Tensor) -> Tensor:
    """Pass the values on."""
    return values


register_all(
    {
        "DepthToSpace": ((1, 11, 13, 28), stateless(depth_to_space, blocksize=1, mode="DCR")),
        "Flatten": ((1, 9, 11, *_TYPE_VERSIONS), stateless(flatten, axis=1)),
        "Identity": ((1, 13, 14, 16, 19, 21, 23, 24, 25), stateless(identity)),
        "Shape": ((1, 13, 15, 19, 21, 23, 24, 25), stateless(shape_of, start=0, end=None)),
        "Size": ((1, *_TYPE_VERSIONS), stateless(size_of)),
        "SpaceToDepth": ((1, 13, 28), stateless(space_to_depth, blocksize=1, mode="DCR")),
        "Squeeze": ((1, 11, 13, 21, 23, 24, 25), _over_axes(squeeze)),
        "Transpose": ((1, 13, 21, 23, 24, 25), stateless(transpose, perm=None)),
        "Unsqueeze": ((1, 11, 13, 21, 23, 24, 25), _over_axes(unsqueeze)),
    }
)


@register("Dropout", versions=(7, 10, 12, 13, 22))
def convert_dropout(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Pass the values on, with a mask of ones if the node gives one."""
    training, ratio = constant(node, graph, 2), constant(node, graph, 1)
    switched_off = not has_input(node, 2) or (training is not None and not training.item())
    if not switched_off and (ratio is None or ratio.item() != 0):
        raise ValueError("expected dropout that is switched off, found it in training mode: export the model for use")
    if has_output(node, 1):
        return converted(node, _with_mask, [0])
    return converted(node, identity, [0])


def _with_mask(values: Tensor) -> tuple[Tensor, Tensor]:
    return values, torch.ones_like(values, dtype=torch.bool)
