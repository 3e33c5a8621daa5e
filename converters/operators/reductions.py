"""Reductions over axes, which ONNX gives as an attribute or, later, as an input; and the places of extremes."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from backscan.converters.operators.nodes import (
    Function,
    attribute,
    constant,
    constant_ints,
    converted,
    has_input,
)
from backscan.converters.operators.registry import OnnxGraph, OnnxNode, OperationConverterResult, register

Axes = tuple[int, ...]


def _l1(values: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    return values.abs().sum(axes, keepdim=keepdim, dtype=values.dtype)


def _l2(values: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    if values.is_floating_point():
        norm: Tensor = torch.linalg.vector_norm(values, 2, axes, keepdim=keepdim)
        return norm
    return _sum_square(values, axes, keepdim).double().sqrt().to(values.dtype)


def _log_sum(values: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    return values.sum(axes, keepdim=keepdim).log()


def _log_sum_exp(values: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    result: Tensor = torch.logsumexp(values, axes, keepdim)
    return result


def _mean(values: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    if values.is_floating_point():
        return values.mean(axes, keepdim)
    return values.double().mean(axes, keepdim).to(values.dtype)


def _product(values: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    # From the last axis on, so that dropping one does not renumber the rest.
    for axis in sorted((axis % values.dim() for axis in axes), reverse=True):
        values = values.prod(axis, keepdim, dtype=values.dtype)
    return values


def _sum(values: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    return values.sum(axes, keepdim=keepdim, dtype=values.dtype)


def _sum_square(values: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    return values.square().sum(axes, keepdim=keepdim, dtype=values.dtype)


def _maximum(values: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    return _extreme(torch.amax, values, axes, keepdim)


def _minimum(values: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    return _extreme(torch.amin, values, axes, keepdim)


def _extreme(function: Function, values: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    if values.numel() > 0:
        result: Tensor = function(values, axes, keepdim)
        return result
    # Of no values at all, the extreme is the neutral element.
    empty = values.sum(axes, keepdim=keepdim, dtype=values.dtype)
    return torch.full_like(empty, _range_of(values.dtype)[function is torch.amin])


def _range_of(dtype: torch.dtype) -> tuple[float, float]:
    """Least and greatest value of a type."""
    if dtype == torch.bool:
        return False, True
    if dtype.is_floating_point:
        return -torch.inf, torch.inf
    return torch.iinfo(dtype).min, torch.iinfo(dtype).max


REDUCTIONS: dict[str, Function] = {
    "ReduceL1": _l1,
    "ReduceL2": _l2,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _maximum,
    "ReduceMean": _mean,
    "ReduceMin": _minimum,
    "ReduceProd": _product,
    "ReduceSum": _sum,
    "ReduceSumSquare": _sum_square,
}


def reduce_over(
    values: Tensor, axes: Tensor | None = None, *, function: Function, keepdim: bool, noop: bool, fixed: Axes | None
) -> Tensor:
    """Reduce over axes.

    Args:
        values: Any shape.
        axes: Axes computed by the graph, or None.
        function: The reduction of values over axes.
        keepdim: Whether the axes stay with size 1.
        noop: Whether no axes mean that nothing is reduced, instead of everything.
        fixed: Axes known at conversion, or None.
    """
    chosen = tuple(axes.tolist()) if axes is not None else fixed
    if noop and not chosen:
        # Each value on its own still goes through the function, as through the square of a sum of squares.
        return _reduce_fixed(values.unsqueeze(-1), function=function, axes=(-1,), keepdim=False)
    return _reduce_fixed(values, function=function, axes=chosen or tuple(range(values.dim())), keepdim=keepdim)


def convert_reduction(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Reduce over axes from an attribute or an input, over all of them by default."""
    function, keepdim = REDUCTIONS[node.operation_type], bool(attribute(node, "keepdims", 1))
    noop = bool(attribute(node, "noop_with_empty_axes", 0))
    axes = constant_ints(node, graph, 1)
    axes = tuple(attribute(node, "axes", ())) if axes is None else axes
    if axes:
        return converted(node, partial(_reduce_fixed, function=function, axes=axes, keepdim=keepdim), [0])
    live = [0, 1] if has_input(node, 1) and constant(node, graph, 1) is None else [0]
    reduction = partial(reduce_over, function=function, keepdim=keepdim, noop=noop, fixed=axes)
    return converted(node, reduction, live)


def _reduce_fixed(values: Tensor, *, function: Function, axes: Axes, keepdim: bool) -> Tensor:
    result: Tensor = function(values, axes, keepdim)
    return result


for _operator in REDUCTIONS:
    register(_operator, versions=(1, 11, 13) if _operator == "ReduceSum" else (1, 11, 13, 18))(convert_reduction)
for _operator in ("ReduceMax", "ReduceMin"):
    register(_operator, versions=(12, 20))(convert_reduction)
register("ReduceLogSumExp", versions=(28,))(convert_reduction)


@register("ArgMax", versions=(1, 11, 12, 13))
@register("ArgMin", versions=(1, 11, 12, 13))
def convert_place_of_extreme(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Index of the largest or smallest value along an axis; of equal ones the first, or the last if asked for."""
    place = partial(
        place_of_extreme,
        largest=node.operation_type == "ArgMax",
        axis=attribute(node, "axis", 0),
        keepdim=bool(attribute(node, "keepdims", 1)),
        last=bool(attribute(node, "select_last_index", 0)),
    )
    return converted(node, place)


def place_of_extreme(values: Tensor, *, largest: bool, axis: int, keepdim: bool, last: bool) -> Tensor:
    """Index of the extreme along an axis."""
    function = torch.argmax if largest else torch.argmin
    if not last:
        return function(values, axis, keepdim)
    return values.shape[axis] - 1 - function(values.flip(axis), axis, keepdim)


@register("TopK", versions=(1, 10, 11, 24))
def convert_top_k(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """The k largest or smallest values along an axis and their places."""
    counts = constant_ints(node, graph, 1)
    count = counts[0] if counts else attribute(node, "k", None)
    select = partial(
        top_k,
        fixed=count,
        axis=attribute(node, "axis", -1),
        largest=bool(attribute(node, "largest", 1)),
    )
    return converted(node, select, [0] if count is not None else [0, 1])


def top_k(
    values: Tensor, count: Tensor | None = None, *, fixed: int | None, axis: int, largest: bool
) -> tuple[Tensor, Tensor]:
    """The extreme values along an axis in order, and their places; of equal ones the first comes first."""
    number = int(count) if count is not None else fixed or 0
    # torch.topk does not say which of equal values it takes.
    ordered, places = torch.sort(values, dim=axis, descending=largest, stable=True)
    return ordered.narrow(axis, 0, number), places.narrow(axis, 0, number)


def cumulative_sum(values: Tensor, *, axis: int, exclusive: bool, reverse: bool) -> Tensor:
    """Running sum along an axis, without the value itself if `exclusive`, from the end if `reverse`."""
    values = values.flip(axis) if reverse else values
    sums = values.cumsum(axis, dtype=values.dtype)
    sums = sums - values if exclusive else sums
    return sums.flip(axis) if reverse else sums


@register("CumSum", versions=(11, 14))
def convert_cumulative_sum(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Running sum along an axis that must be known."""
    axes = constant_ints(node, graph, 1)
    if axes is None:
        raise ValueError("expected a constant axis, found a computed one: fold the constants of the model")
    exclusive, reverse = (bool(attribute(node, name, 0)) for name in ("exclusive", "reverse"))
    return converted(node, partial(cumulative_sum, axis=axes[0], exclusive=exclusive, reverse=reverse), [0])
