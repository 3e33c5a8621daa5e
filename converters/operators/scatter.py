"""Values written to computed places, and masks made of places."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from backscan.converters.operators.nodes import attribute, constant_ints, converted, has_input, register_all, stateless
from backscan.converters.operators.registry import OnnxGraph, OnnxNode, OperationConverterResult, register
from backscan.converters.operators.selection import from_start

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def scatter_elements(values: Tensor, places: Tensor, updates: Tensor, *, axis: int, reduction: str) -> Tensor:
    """Write single values, each at its own place along an axis; a reduction combines them with what is there."""
    places = from_start(places, values.shape[axis])
    if reduction == "none":
        return values.scatter(axis, places, updates)
    return values.scatter_reduce(axis, places, updates, _REDUCTIONS[reduction])


def scatter_nd(values: Tensor, coordinates: Tensor, updates: Tensor, *, reduction: str) -> Tensor:
    """Write parts of a tensor at coordinates.

    Args:
        values: Shape `[*axes, *rest]`.
        coordinates: Shape `[..., len(axes)]`.
        updates: Shape `[..., *rest]`.
        reduction: `none`, or how to combine updates with what is there: `add`, `mul`, `max` or `min`.
    """
    depth = coordinates.shape[-1]
    sizes, rest = values.shape[:depth], values.shape[depth:]
    row = torch.zeros_like(coordinates[..., 0], dtype=torch.int64)
    for axis, size in enumerate(sizes):
        row = row * size + from_start(coordinates[..., axis], size)
    parts = values.reshape(sizes.numel(), rest.numel())
    rows = row.reshape(-1, 1).expand(-1, rest.numel())
    changes = updates.reshape(-1, rest.numel())
    return scatter_elements(parts, rows, changes, axis=0, reduction=reduction).reshape(values.shape)


def non_zero(values: Tensor) -> Tensor:
    """Coordinates of the values that are not zero, one a column."""
    return torch.nonzero(values).T


def one_hot(places: Tensor, depth: Tensor, values: Tensor, *, axis: int) -> Tensor:
    """A new axis with `values[1]` at the place and `values[0]` elsewhere; negative places count back."""
    size = int(depth)
    rank = places.dim() + 1
    wrapped = torch.where(places < 0, places + size, places).unsqueeze(axis)
    numbers = torch.arange(size, device=places.device).reshape(-1, *[1] * (rank - 1 - axis % rank))
    return torch.where(wrapped == numbers, values[1], values[0])


@register("Trilu", versions=(14,))
def convert_trilu(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Keep one triangle of a matrix, on one side of a diagonal that must be known."""
    diagonals = constant_ints(node, graph, 1) if has_input(node, 1) else (0,)
    if diagonals is None:
        raise ValueError("expected a constant diagonal, found a computed one: fold the constants of the model")
    triangle = torch.triu if attribute(node, "upper", 1) else torch.tril
    return converted(node, partial(triangle, diagonal=diagonals[0]), [0])


register_all(
    {
        "NonZero": ((9, 13), stateless(non_zero)),
        "OneHot": ((9, 11, 28), stateless(one_hot, axis=-1)),
        "Scatter": ((9,), stateless(scatter_elements, axis=0, reduction="none")),
        "ScatterElements": ((11, 13, 16, 18), stateless(scatter_elements, axis=0, reduction="none")),
        "ScatterND": ((11, 13, 16, 18), stateless(scatter_nd, reduction="none")),
    }
)
