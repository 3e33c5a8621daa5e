"""Operators that keep as many of the values as these themselves say; the gradient reaches what is kept."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from backscan.converters.operators.nodes import attribute, converted, register_all, stateless
from backscan.converters.operators.registry import OnnxGraph, OnnxNode, OperationConverterResult, register


def compress(values: Tensor, condition: Tensor, *, axis: int | None) -> Tensor:
    """Entries of an axis, or of all values in a row, where a condition holds; it may be shorter than they are."""
    given, along = (values.reshape(-1), 0) if axis is None else (values, axis)
    return given.index_select(along, torch.nonzero(condition).reshape(-1))


def unique(values: Tensor, *, axis: int | None, by_size: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What occurs along an axis, or among all values in a row, each once.

    Args:
        values: Any shape.
        axis: Axis whose entries are compared; None compares numbers.
        by_size: Whether they come by size, or else in the order in which each occurs first.

    Returns:
        The entries, where each occurs first, which of them stands at each place, and how often each occurs.
    """
    given, along = (values.reshape(-1), 0) if axis is None else (values, axis)
    _, which, counts = torch.unique(given.detach(), return_inverse=True, return_counts=True, dim=along)
    places = torch.arange(len(which), device=values.device)
    first = torch.full_like(counts, len(which)).scatter_reduce(0, which, places, "amin")
    if not by_size:
        order = first.argsort()
        first, counts, which = first[order], counts[order], order.argsort()[which]
    return given.index_select(along, first), first, which, counts


def kept_once(values: Tensor, *, axis: int | None, by_size: bool) -> Tensor:
    """The first result of `unique`, where a node has no other."""
    return unique(values, axis=axis, by_size=by_size)[0]


@register("Unique", versions=(11, 28))
def convert_unique(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """What occurs, each once; one tensor or several, as many as the node has outputs."""
    function = unique if len(node.output_values) > 1 else kept_once
    by_size = bool(attribute(node, "sorted", 1))
    return converted(node, partial(function, axis=attribute(node, "axis", None), by_size=by_size))


register_all({"Compress": ((9, 11, 28), stateless(compress, axis=None))})
