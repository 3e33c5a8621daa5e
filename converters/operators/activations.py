"""Activation functions and the softmax family."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from backscan.converters.operators.nodes import Function, attribute, converted, register_all, stateless
from backscan.converters.operators.registry import (
    ConverterFunction,
    OnnxGraph,
    OnnxNode,
    OperationConverterResult,
    register,
)


def hard_sigmoid(values: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Limit alpha x + beta to [0, 1]."""
    return torch.clamp(alpha * values + beta, 0, 1)


def selu(values: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Gamma times elu."""
    return gamma * F.elu(values, alpha)


def leaky_relu(values: Tensor, *, alpha: float) -> Tensor:
    """Give x, or alpha x below zero."""
    return F.leaky_relu(values, alpha)


def prelu(values: Tensor, slope: Tensor) -> Tensor:
    """Give x, or slope times x below zero; the slope broadcasts to x."""
    return torch.where(values < 0, values * slope, values)


def thresholded_relu(values: Tensor, *, alpha: float) -> Tensor:
    """Give x where it exceeds alpha, else 0."""
    return torch.where(values > alpha, values, 0)


def shrink(values: Tensor, *, bias: float, lambd: float) -> Tensor:
    """Draw x towards zero by `bias` outside [-lambd, lambd], and zero within."""
    return torch.where(values < -lambd, values + bias, torch.where(values > lambd, values - bias, 0))


def swish(values: Tensor, *, alpha: float) -> Tensor:
    """Weigh x by sigmoid(alpha x)."""
    return F.silu(values) if alpha == 1 else values * torch.sigmoid(alpha * values)


def over_trailing_axes(values: Tensor, *, function: Function, axis: int) -> Tensor:
    """Apply a softmax over all axes from `axis` on together, as ONNX did before opset 13."""
    shape = values.shape
    result: Tensor = function(values.reshape(*shape[: axis % len(shape)], -1), dim=-1)
    return result.reshape(shape)


def hardmax(values: Tensor, dim: int) -> Tensor:
    """1 at the first maximum along an axis, else 0."""
    place = torch.argmax(values, dim=dim, keepdim=True)
    return torch.zeros_like(values).scatter(dim, place, 1)


def _gelu(values: Tensor, *, approximate: str) -> Tensor:
    return F.gelu(values, approximate=approximate)


_ACTIVATIONS: dict[str, tuple[tuple[int, ...], ConverterFunction]] = {
    "Celu": ((12, 28), stateless(F.celu, alpha=1.0)),
    "Elu": ((6, 22), stateless(F.elu, alpha=1.0)),
    "Gelu": ((20,), stateless(_gelu, approximate="none")),
    "HardSigmoid": ((6, 22), stateless(hard_sigmoid, alpha=0.2, beta=0.5)),
    "HardSwish": ((14, 22), stateless(F.hardswish)),
    "LeakyRelu": ((6, 16), stateless(leaky_relu, alpha=0.01)),
    "Mish": ((18, 22), stateless(F.mish)),
    "PRelu": ((7, 9, 16), stateless(prelu)),
    "Relu": ((6, 13, 14), stateless(torch.relu)),
    "Selu": ((6, 22), stateless(selu, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875)),
    "Shrink": ((9,), stateless(shrink, bias=0.0, lambd=0.5)),
    "Sigmoid": ((6, 13), stateless(torch.sigmoid)),
    "Softplus": ((1, 22), stateless(F.softplus)),
    "Softsign": ((1, 22), stateless(F.softsign)),
    "Swish": ((24,), stateless(swish, alpha=1.0)),
    "Tanh": ((6, 13), stateless(torch.tanh)),
    "ThresholdedRelu": ((10, 22), stateless(thresholded_relu, alpha=1.0)),
}

_SOFTMAXES: dict[str, Function] = {"Hardmax": hardmax, "LogSoftmax": F.log_softmax, "Softmax": F.softmax}

register_all(_ACTIVATIONS)


@register("Hardmax", versions=(13,))
@register("LogSoftmax", versions=(13,))
@register("Softmax", versions=(13,))
def convert_softmax(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Softmax along one axis, by default the last."""
    return converted(node, partial(_SOFTMAXES[node.operation_type], dim=attribute(node, "axis", -1)))


@register("Hardmax", versions=(1, 11))
@register("LogSoftmax", versions=(1, 11))
@register("Softmax", versions=(1, 11))
def convert_flattened_softmax(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Softmax over all axes from one on, by default the second."""
    function = _SOFTMAXES[node.operation_type]
    return converted(node, partial(over_trailing_axes, function=function, axis=attribute(node, "axis", 1)))
