"""Operators that pick values by place: slices, gathers, splits, and joining the parts again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

from backscan.converters.operators.nodes import attribute, constant, constant_ints, converted, has_input, stateless
from backscan.converters.operators.registry import OnnxGraph, OnnxNode, OperationConverterResult, register


def concatenate(*tensors: Tensor, axis: int) -> Tensor:
    """Join tensors along an axis."""
    return torch.cat(tensors, axis)


register("Concat", versions=(4, 11, 13))(stateless(concatenate, axis=1))


@register("Gather", versions=(1, 11, 13))
def convert_gather(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Take the entries of an axis at the given places; one known place is a plain selection."""
    axis, places = attribute(node, "axis", 0), constant(node, graph, 1)
    if places is not None and places.dim() == 0:
        return converted(node, partial(torch.select, dim=axis, index=int(places)), [0])
    return converted(node, partial(gather, axis=axis))


def gather(values: Tensor, places: Tensor, *, axis: int) -> Tensor:
    """Entries of an axis at places of any shape, which takes the place of the axis; negative ones count back."""
    axis = axis % values.dim()
    chosen = values.index_select(axis, from_start(places, values.shape[axis]).reshape(-1))
    return chosen.reshape(values.shape[:axis] + places.shape + values.shape[axis + 1 :])


@register("GatherElements", versions=(11, 13))
def convert_gather_elements(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Take single values, each at its own place along an axis."""
    return converted(node, partial(gather_elements, axis=attribute(node, "axis", 0)))


def gather_elements(values: Tensor, places: Tensor, *, axis: int) -> Tensor:
    """The value at each place along an axis, at the position of the place along the others."""
    return values.gather(axis, from_start(places, values.shape[axis]))


@register("GatherND", versions=(11, 12, 13))
def convert_gather_nd(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Take the parts at the given coordinates."""
    return converted(node, partial(gather_nd, batch_dims=attribute(node, "batch_dims", 0)))


def gather_nd(values: Tensor, coordinates: Tensor, *, batch_dims: int) -> Tensor:
    """Parts of a tensor at coordinates.

    Args:
        values: Shape `[*batch, *axes, *rest]`.
        coordinates: Shape `[*batch, ..., len(axes)]`.
        batch_dims: Number of leading axes that both have.

    Returns:
        Shape `[*batch, ..., *rest]`.
    """
    lead = [
        torch.arange(size, device=values.device).reshape(-1, *[1] * (coordinates.dim() - 2 - axis))
        for axis, size in enumerate(values.shape[:batch_dims])
    ]
    return values[(*lead, *coordinates.long().unbind(-1))]


def from_start(places: Tensor, size: int) -> Tensor:
    """Count negative places from the start of the axis instead of its end."""
    return torch.where(places < 0, places + size, places).long()


@register("Slice", versions=(1,))
def convert_slice_attributes(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Slice with its bounds as attributes."""
    starts, ends = attribute(node, "starts", ()), attribute(node, "ends", ())
    axes = attribute(node, "axes", range(len(starts)))
    return converted(node, partial(take_slices, slices=_slices(starts, ends, axes, [1] * len(starts))))


@register("Slice", versions=(10, 11, 13))
def convert_slice(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Slice with its bounds as inputs, constant or computed."""
    known = [constant_ints(node, graph, index) for index in (1, 2, 3, 4)]
    if any(has_input(node, index) and value is None for index, value in zip((1, 2, 3, 4), known, strict=True)):
        return converted(node, take_computed_slices)
    starts, ends, axes, steps = known
    if starts is None or ends is None:
        raise ValueError("expected the inputs 'starts' and 'ends', found none: the model is damaged, export it again")
    axes = tuple(range(len(starts))) if axes is None else axes
    slices = _slices(starts, ends, axes, steps or [1] * len(starts))
    return converted(node, partial(take_slices, slices=slices), [0])


def take_slices(values: Tensor, *, slices: Sequence[tuple[int, slice]]) -> Tensor:
    """Cut each axis to its slice, which may run backwards."""
    for axis, part in slices:
        if part.step > 0:
            values = values[(slice(None),) * (axis % values.dim()) + (part,)]
        else:
            places = _backwards(part, values.shape[axis])
            values = values.index_select(axis, torch.tensor(places, dtype=torch.int64, device=values.device))
    return values


def _backwards(part: slice, size: int) -> range:
    """Places of a slice with a negative step; unlike Python's, a start before the axis counts as its first entry."""
    start, stop = (bound + size if bound < 0 else bound for bound in (part.start, part.stop))
    return range(min(max(start, 0), size - 1), min(max(stop, -1), size - 1), part.step)


def take_computed_slices(
    values: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    """Slice by bounds that the graph computes."""
    first, last = starts.tolist(), ends.tolist()
    which = range(len(first)) if axes is None else axes.tolist()
    stride = [1] * len(first) if steps is None else steps.tolist()
    return take_slices(values, slices=_slices(first, last, which, stride))


def _slices(
    starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]
) -> tuple[tuple[int, slice], ...]:
    parts = zip(axes, starts, ends, steps, strict=True)
    return tuple((axis, slice(start, end, step)) for axis, start, end, step in parts)


@register("Split", versions=(2, 11, 13, 18))
def convert_split(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Cut an axis into parts of given sizes, or into as many equal ones as the node has outputs."""
    axis, count = attribute(node, "axis", 0), len(node.output_values)
    sizes = constant_ints(node, graph, 1) or attribute(node, "split", None)
    if sizes is not None:
        return converted(node, _split_result(partial(split, sizes=tuple(sizes), axis=axis), count), [0])
    function = split_computed if has_input(node, 1) else partial(split_evenly, count=count)
    return converted(node, _split_result(partial(function, axis=axis), count))


def split(values: Tensor, *, sizes: Sequence[int], axis: int) -> tuple[Tensor, ...]:
    """Cut an axis into parts of the given sizes."""
    return torch.split(values, list(sizes), axis)


def split_computed(values: Tensor, sizes: Tensor, *, axis: int) -> tuple[Tensor, ...]:
    """Cut an axis into parts of computed sizes."""
    return torch.split(values, sizes.tolist(), axis)


def split_evenly(values: Tensor, *, count: int, axis: int) -> tuple[Tensor, ...]:
    """Cut an axis into equal parts, the last of which is smaller where that does not work out."""
    size = values.shape[axis]
    part = -(-size // count)
    ends = [min(end, size) for end in accumulate([part] * count)]
    return split(values, sizes=[end - start for start, end in zip([0, *ends], ends, strict=False)], axis=axis)


def _split_result(function: partial[tuple[Tensor, ...]], count: int) -> partial[tuple[Tensor, ...]] | partial[Tensor]:
    return function if count > 1 else partial(_only_part, function=function)


def _only_part(*tensors: Tensor, function: partial[tuple[Tensor, ...]]) -> Tensor:
    (part,) = function(*tensors)
    return part
