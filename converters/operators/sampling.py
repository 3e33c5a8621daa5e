"""Sampling of images at computed positions, as spatial transformers do it."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor

from backscan.converters.operators.nodes import attribute, constant_ints, converted
from backscan.converters.operators.registry import OnnxGraph, OnnxNode, OperationConverterResult, register

_MODES = {
    "linear": "bilinear",
    "bilinear": "bilinear",
    "nearest": "nearest",
    "cubic": "bicubic",
    "bicubic": "bicubic",
}


@register("GridSample", versions=(16, 20, 22))
def convert_grid_sample(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Read an image at positions in [-1, 1]."""
    sample = partial(
        F.grid_sample,
        mode=_MODES[attribute(node, "mode", "bilinear")],
        padding_mode=attribute(node, "padding_mode", "zeros"),
        align_corners=bool(attribute(node, "align_corners", 0)),
    )
    return converted(node, sample)


@register("AffineGrid", versions=(20,))
def convert_affine_grid(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Positions in [-1, 1] moved by an affine map."""
    align_corners = bool(attribute(node, "align_corners", 0))
    sizes = constant_ints(node, graph, 1)
    if sizes is None:
        return converted(node, partial(affine_grid, align_corners=align_corners))
    return converted(node, partial(F.affine_grid, size=list(sizes), align_corners=align_corners), [0])


def affine_grid(maps: Tensor, sizes: Tensor, *, align_corners: bool) -> Tensor:
    """A grid of computed size."""
    return F.affine_grid(maps, sizes.tolist(), align_corners=align_corners)
