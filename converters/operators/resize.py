"""Resize and its predecessor Upsample: every mode, axis by axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import floor

import numpy as np
import torch
from torch import Tensor

from backscan.converters.operators.interpolation import (
    COORDINATE_MODES,
    MODES,
    NEAREST_MODES,
    Method,
    Resampling,
    outside_mask,
    resample,
)
from backscan.converters.operators.nodes import attribute, constant, converted, has_input
from backscan.converters.operators.registry import OnnxGraph, OnnxNode, OperationConverterResult, register

Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """What size the output has; the entries belong to `axes`."""

    axes: tuple[int, ...] | None
    """Which axes are resized; None for all."""
    policy: str
    """`keep_aspect_ratio_policy`."""
    scales: Numbers | None = None
    """Factor of each axis."""
    sizes: Numbers | None = None
    """New size of each axis, in place of factors."""
    region: Numbers | None = None
    """Beginnings and then ends of the region to read."""

    def resamplings(self, shape: Sequence[int], method: Method) -> list[tuple[int, Resampling]]:
        """The axes that change, with the resampling of each."""
        axes = self.axes or tuple(range(len(shape)))
        axes = tuple(axis % len(shape) for axis in axes)
        olds = [shape[axis] for axis in axes]
        scales = self._scales(olds)
        news = self._new_sizes(olds, scales)
        region = self.region if method.coordinates == "tf_crop_and_resize" and self.region else None
        starts = region[: len(axes)] if region else (0.0,) * len(axes)
        ends = region[len(axes) :] if region else (1.0,) * len(axes)
        parts = zip(axes, olds, news, scales, starts, ends, strict=True)
        return [
            (axis, Resampling(method, old, new, float(scale), start, end))
            for axis, old, new, scale, start, end in parts
            # At scale 1 onnxruntime passes the axis on, whatever the region.
            if scale != 1
        ]

    def _scales(self, olds: Sequence[int]) -> list[np.float32]:
        """Factor of each axis."""
        if self.sizes is None:
            return [np.float32(scale) for scale in self.scales or ()]
        scales = [np.float32(size) / np.float32(old) for size, old in zip(self.sizes, olds, strict=True)]
        if self.policy == "stretch":
            return scales
        return [min(scales) if self.policy == "not_larger" else max(scales)] * len(olds)

    def _new_sizes(self, olds: Sequence[int], scales: Sequence[np.float32]) -> list[int]:
        if self.sizes is not None and self.policy == "stretch":
            return [int(size) for size in self.sizes]
        # In float32, where 10 times 0.7 is 7.
        exact = [float(scale * np.float32(old)) for old, scale in zip(olds, scales, strict=True)]
        return [floor(size if self.sizes is None else size + 0.5) for size in exact]


@register("Upsample", versions=(7,))
def convert_upsample_attributes(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Upsample with its factors as an attribute."""
    target = Target(axes=None, policy="stretch", scales=tuple(attribute(node, "scales", ())))
    return converted(node, partial(resize, target=target, method=_old_method(node)))


@register("Upsample", versions=(9, 10))
@register("Resize", versions=(10,))
def convert_old_resize(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Resize by factors without a choice of coordinates."""
    return _converted_resize(node, graph, _old_method(node), scales=1)


@register("Resize", versions=(11, 13, 18, 19))
def convert_resize(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Resize by factors or to sizes."""
    method = Method(
        mode=attribute(node, "mode", "nearest"),
        coordinates=attribute(node, "coordinate_transformation_mode", "half_pixel"),
        nearest=attribute(node, "nearest_mode", "round_prefer_floor"),
        cubic_a=attribute(node, "cubic_coeff_a", -0.75),
        exclude_outside=bool(attribute(node, "exclude_outside", 0)),
        antialias=bool(attribute(node, "antialias", 0)),
        extrapolation=attribute(node, "extrapolation_value", 0.0),
    )
    return _converted_resize(node, graph, method, region=1, scales=2, sizes=3)


def _old_method(node: OnnxNode) -> Method:
    return Method(mode=attribute(node, "mode", "nearest"), coordinates="asymmetric", nearest="simple")


def _converted_resize(node: OnnxNode, graph: OnnxGraph, method: Method, **places: int) -> OperationConverterResult:
    """Bind what is known of region, scales and sizes, given their places among the inputs."""
    _check(method)
    known: dict[str, Numbers] = {}
    live: list[str] = []
    for name, place in places.items():
        value = constant(node, graph, place)
        if value is not None and value.numel() > 0:
            known[name] = tuple(value.tolist())
        elif value is None and has_input(node, place):
            live.append(name)
    axes, policy = attribute(node, "axes", None), attribute(node, "keep_aspect_ratio_policy", "stretch")
    if policy != "stretch" and min(axes or (0,)) < 0:
        # onnxruntime returns the input as it is, against the standard.
        raise ValueError(f"expected axes counted from the start with policy '{policy}', found {axes}: export them so")
    target = Target(axes, policy, **known)
    if not live:
        return converted(node, partial(resize, target=target, method=method), [0])
    function = partial(resize_computed, names=tuple(live), target=target, method=method)
    return converted(node, function, [0, *[places[name] for name in live]])


def _check(method: Method) -> None:
    nearest = NEAREST_MODES | {"simple"}
    if method.mode not in MODES or method.coordinates not in COORDINATE_MODES or method.nearest not in nearest:
        raise ValueError(f"expected a mode of resizing that ONNX defines, found {method}: export the model again")


def resize_computed(values: Tensor, *numbers: Tensor, names: Sequence[str], target: Target, method: Method) -> Tensor:
    """Resize where the graph computes some of the target's `names`."""
    computed = {name: tuple(number.tolist()) for name, number in zip(names, numbers, strict=True)}
    fixed = {name: getattr(target, name) for name in ("scales", "sizes", "region")}
    return resize(values, target=Target(target.axes, target.policy, **(fixed | computed)), method=method)


def resize(values: Tensor, *, target: Target, method: Method) -> Tensor:
    """Resize a tensor axis by axis, which all modes of ONNX allow.

    Args:
        values: Any shape.
        target: New size.
        method: Kind of interpolation.
    """
    changes = target.resamplings(values.shape, method)
    result = values if values.is_floating_point() else values.float()
    for dim, axis in changes:
        # With antialiasing onnxruntime leaves an axis that keeps its size, whatever the scale says.
        if not (method.antialias and axis.new_size == axis.size):
            result = resample(result, dim, axis)
    if method.coordinates == "tf_crop_and_resize":
        for dim, axis in changes:
            outside = outside_mask(dim, values.dim(), axis, values.device)
            result = torch.where(outside, method.extrapolation, result)
    return result.to(values.dtype)
