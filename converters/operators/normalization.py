"""Normalisation: by stored statistics, or by those of the values themselves over some of their axes."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from backscan.converters.operators.nodes import attribute, constant, converted, register_all, stateless
from backscan.converters.operators.registry import OnnxGraph, OnnxNode, OperationConverterResult, register


@register("BatchNormalization", versions=(7, 9, 14, 15))
def convert_batch_normalization(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Normalise by stored statistics, or by the batch's if the node says that it is training."""
    epsilon = attribute(node, "epsilon", 1e-5)
    if attribute(node, "spatial", 1) == 0:
        return converted(node, partial(normalize_each, epsilon=epsilon))
    if attribute(node, "training_mode", 0):
        momentum = attribute(node, "momentum", 0.9)
        several = len(node.output_values) > 1
        return converted(node, partial(normalize_training, epsilon=epsilon, momentum=momentum, several=several))
    return converted(node, partial(normalize_batch, epsilon=epsilon))


def normalize_batch(
    values: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, *, epsilon: float
) -> Tensor:
    """Normalise each channel (axis 1) by the stored mean and variance."""
    return F.batch_norm(values, mean, variance, scale, bias, False, 0.0, epsilon)


def normalize_each(
    values: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, *, epsilon: float
) -> Tensor:
    """Normalise each value of an image by its own stored statistics, as opset 7 could with `spatial=0`."""
    return (values - mean) * torch.rsqrt(variance + epsilon) * scale + bias


def normalize_training(
    values: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float,
    momentum: float,
    several: bool,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """Normalise by the batch's statistics; with `several`, also give the stored ones as the batch would move them."""
    result = F.batch_norm(values, None, None, scale, bias, True, 0.0, epsilon)
    if not several:
        return result
    axes = (0, *range(2, values.dim()))
    spread, centre = torch.var_mean(values, axes, correction=0)
    return result, mean * momentum + centre * (1 - momentum), variance * momentum + spread * (1 - momentum)


@register("LayerNormalization", versions=(17,))
def convert_layer_normalization(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Normalise over the trailing axes; torch's own kernel where the scale has just their shape."""
    axis, epsilon = attribute(node, "axis", -1), attribute(node, "epsilon", 1e-5)
    scale = constant(node, graph, 1)
    bias = constant(node, graph, 2)
    alike = bias is None or (scale is not None and bias.shape == scale.shape)
    if len(node.output_values) == 1 and axis < 0 and scale is not None and scale.dim() == -axis and alike:
        return converted(node, partial(_layer_norm, shape=tuple(scale.shape), epsilon=epsilon))
    if len(node.output_values) > 1:
        several = partial(normalize_with_statistics, axis=axis, epsilon=epsilon, num_outputs=len(node.output_values))
        return converted(node, several)
    return converted(node, partial(layer_normalization, axis=axis, epsilon=epsilon))


def _layer_norm(
    values: Tensor, scale: Tensor, bias: Tensor | None = None, *, shape: tuple[int, ...], epsilon: float
) -> Tensor:
    # A scale of size 1 along an axis broadcasts in ONNX, which torch's kernel refuses.
    if values.shape[-len(shape) :] != shape:
        return layer_normalization(values, scale, bias, axis=-len(shape), epsilon=epsilon)
    return F.layer_norm(values, shape, scale, bias, epsilon)


def layer_normalization(
    values: Tensor, scale: Tensor, bias: Tensor | None = None, *, axis: int, epsilon: float
) -> Tensor:
    """Normalise over the axes from `axis` on, then scale and shift; arguments as below."""
    return normalize_with_statistics(values, scale, bias, axis=axis, epsilon=epsilon, num_outputs=1)[0]


def normalize_with_statistics(
    values: Tensor, scale: Tensor, bias: Tensor | None = None, *, axis: int, epsilon: float, num_outputs: int
) -> tuple[Tensor, ...]:
    """Normalise over the axes from `axis` on, then scale and shift.

    Args:
        values: Any shape; half precision is computed in float32, ONNX's `stash_type` of 1.
        scale: Broadcasts to `values`.
        bias: The same; None for none.
        axis: First normalised axis.
        epsilon: Added to the variance.
        num_outputs: How many to give of: the result, the mean, the inverse of the deviation.
    """
    axes = tuple(range(axis % values.dim(), values.dim()))
    wide = _at_least_float32(values)
    variance, mean = torch.var_mean(wide, axes, correction=0, keepdim=True)
    inverse = torch.rsqrt(variance + epsilon)
    result = ((wide - mean) * inverse).to(values.dtype) * scale
    return (result if bias is None else result + bias, mean, inverse)[:num_outputs]


def rms_normalization(values: Tensor, scale: Tensor, *, axis: int, epsilon: float) -> Tensor:
    """Divide by the root mean square over the axes from `axis` on, then scale."""
    axes = tuple(range(axis % values.dim(), values.dim()))
    wide = _at_least_float32(values)
    normal = wide * torch.rsqrt(wide.square().mean(axes, keepdim=True) + epsilon)
    return normal.to(values.dtype) * scale


def instance_normalization(values: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float) -> Tensor:
    """Normalise each channel of each image: as many groups as channels."""
    return F.group_norm(values, values.shape[1], scale, bias, epsilon)


@register("GroupNormalization", versions=(18, 21))
def convert_group_normalization(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Normalise over groups of channels; scale and bias belong to channels, before opset 21 to groups."""
    groups, epsilon = attribute(node, "num_groups", None), attribute(node, "epsilon", 1e-5)
    return converted(node, partial(group_normalization, num_groups=groups, epsilon=epsilon))


def group_normalization(values: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float) -> Tensor:
    """Normalise over groups of channels (axis 1).

    Args:
        values: Shape `[N, C, ...]`.
        scale: Shape `[C]`, or `[num_groups]` as in opset 18.
        bias: The same.
        num_groups: Number of groups, a divisor of C.
        epsilon: Added to the variance.
    """
    channels = values.shape[1]
    if scale.shape[0] != channels:
        scale, bias = (item.repeat_interleave(channels // num_groups) for item in (scale, bias))
    return F.group_norm(values, num_groups, scale, bias, epsilon)


def local_response_normalization(values: Tensor, *, size: int, alpha: float, beta: float, bias: float) -> Tensor:
    """Divide by a power of the mean square over `size` neighbouring channels."""
    squares = values.square().flatten(2).unsqueeze(1)
    # For an even size ONNX has the extra channel behind, torch's own function before.
    padded = F.pad(squares, (0, 0, (size - 1) // 2, size // 2))
    means = F.avg_pool2d(padded, (size, 1), stride=1).squeeze(1).reshape(values.shape)
    return values / (bias + alpha * means).pow(beta)


def lp_normalization(values: Tensor, *, axis: int, p: int) -> Tensor:
    """Divide by the p-norm along an axis; a zero vector stays zero."""
    norm = torch.linalg.vector_norm(values, p, axis, keepdim=True)
    return values / torch.where(norm == 0, 1, norm)


def mean_variance_normalization(values: Tensor, *, axes: list[int]) -> Tensor:
    """Subtract the mean and divide by the deviation over some axes."""
    centred = values - values.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)


def _at_least_float32(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


register_all(
    {
        "InstanceNormalization": ((6, 22), stateless(instance_normalization, epsilon=1e-5)),
        "LRN": ((1, 13), stateless(local_response_normalization, size=1, alpha=1e-4, beta=0.75, bias=1.0)),
        "LpNormalization": ((1, 22), stateless(lp_normalization, axis=-1, p=2)),
        "MeanVarianceNormalization": ((9, 13), stateless(mean_variance_normalization, axes=[0, 2, 3])),
        "RMSNormalization": ((23,), stateless(rms_normalization, axis=-1, epsilon=1e-5)),
    }
)
