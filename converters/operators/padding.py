"""Pad in all its modes; amounts may be negative, which crops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from backscan.converters.operators.nodes import attribute, constant, constant_ints, converted, has_input
from backscan.converters.operators.registry import OnnxGraph, OnnxNode, OperationConverterResult, register

Amounts = tuple[tuple[int, int, int], ...]
"""Axis, amount before and amount after, for every padded axis."""


_TORCH_MODES = {"reflect": "reflect", "edge": "replicate"}


@register("Pad", versions=(2,))
def convert_pad_attributes(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Pad with the amounts as an attribute."""
    amounts = _amounts(attribute(node, "pads", ()), None)
    fill = attribute(node, "value", 0.0)
    return converted(node, partial(pad, amounts=amounts, mode=attribute(node, "mode", "constant"), fill=fill))


@register("Pad", versions=(11, 13, 18, 19, 21, 23, 24, 25))
def convert_pad(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Pad with the amounts as an input, constant or computed."""
    mode = attribute(node, "mode", "constant")
    pads, axes, fill = constant_ints(node, graph, 1), constant_ints(node, graph, 3), constant(node, graph, 2)
    known = pads is not None and all(
        not has_input(node, index) or value is not None for index, value in ((2, fill), (3, axes))
    )
    if not known or pads is None:
        return converted(node, partial(pad_computed, mode=mode))
    value = 0 if fill is None else fill.item()
    return converted(node, partial(pad, amounts=_amounts(pads, axes), mode=mode, fill=value), [0])


def pad_computed(
    values: Tensor, pads: Tensor, fill: Tensor | None = None, axes: Tensor | None = None, *, mode: str
) -> Tensor:
    """Pad by amounts that the graph computes."""
    amounts = _amounts(pads.tolist(), None if axes is None else axes.tolist())
    return pad(values, amounts=amounts, mode=mode, fill=0 if fill is None else fill.item())


def pad(values: Tensor, *, amounts: Amounts, mode: str, fill: float) -> Tensor:
    """Lengthen axes at either end.

    Args:
        values: Any shape.
        amounts: What to add to which axis.
        mode: `constant`, `reflect`, `edge` or `wrap`.
        fill: Value for `constant`.

    Raises:
        ValueError: the mode is none of these.
    """
    if mode == "constant":
        return F.pad(values, _in_torch_order(amounts, values.dim()), value=fill)
    if mode in _TORCH_MODES and _torch_can_pad(values, amounts):
        return F.pad(values, _in_torch_order(amounts, values.dim()), mode=_TORCH_MODES[mode])
    # What is cropped does not come back by reflection.
    values = F.pad(values, _in_torch_order(_with(amounts, min), values.dim()))
    for axis, before, after in _with(amounts, max):
        places = _source_places(values.shape[axis], before, after, mode)
        values = values.index_select(axis, torch.tensor(places, device=values.device))
    return values


def _torch_can_pad(values: Tensor, amounts: Amounts) -> bool:
    """Whether torch does it: around images, by less than their size."""
    return (
        values.dim() == 4
        and bool(amounts)
        and all(axis % 4 >= 2 and min(amount) >= 0 and max(amount) < values.shape[axis] for axis, *amount in amounts)
    )


def _source_places(size: int, before: int, after: int, mode: str) -> list[int]:
    """Which entry of an axis each entry of the padded axis repeats."""
    places = range(-before, size + after)
    if mode == "edge":
        return [min(max(place, 0), size - 1) for place in places]
    if mode == "wrap":
        return [place % size for place in places]
    if mode == "reflect":
        period = max(2 * size - 2, 1)
        return [min(place % period, period - place % period) % size for place in places]
    raise ValueError(f"expected pad mode constant, reflect, edge or wrap, found '{mode}': export the model again")


def _in_torch_order(amounts: Amounts, rank: int) -> list[int]:
    """Amounts from the last axis to the first that is padded, as torch wants them."""
    pairs = {axis % rank: (before, after) for axis, before, after in amounts}
    first = min(pairs, default=rank)
    return [amount for axis in range(rank - 1, first - 1, -1) for amount in pairs.get(axis, (0, 0))]


def _with(amounts: Amounts, keep: Callable[[int, int], int]) -> Amounts:
    """Only what crops (`min`) or only what lengthens (`max`)."""
    return tuple((axis, keep(before, 0), keep(after, 0)) for axis, before, after in amounts)


def _amounts(pads: Sequence[int], axes: Sequence[int] | None) -> Amounts:
    half = len(pads) // 2
    which = range(half) if axes is None else axes
    triples = zip(which, pads[:half], pads[half:], strict=True)
    return tuple(triple for triple in triples if triple[1:] != (0, 0))
