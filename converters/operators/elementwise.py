"""Arithmetic and logic, element by element with numpy's broadcasting."""

from __future__ import annotations

from functools import partial, reduce

import torch
from torch import Tensor

from backscan.converters.operators import straight_through
from backscan.converters.operators.nodes import (
    Function,
    attribute,
    constant,
    converted,
    has_input,
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


def divide(dividend: Tensor, divisor: Tensor) -> Tensor:
    """Divide; integers truncate towards zero as in C."""
    return torch.div(dividend, divisor, rounding_mode=None if dividend.is_floating_point() else "trunc")


def modulo(dividend: Tensor, divisor: Tensor, *, fmod: int) -> Tensor:
    """Remainder with the sign of the divisor, or of the dividend if `fmod`."""
    return torch.fmod(dividend, divisor) if fmod else torch.remainder(dividend, divisor)


def power(base: Tensor, exponent: Tensor) -> Tensor:
    """Raise to a power; the result has the type of the base."""
    return torch.pow(base, exponent).to(base.dtype)


def clip(values: Tensor, lowest: Tensor | None = None, highest: Tensor | None = None) -> Tensor:
    """Limit to a range of which either end may be missing."""
    if lowest is not None:
        values = torch.maximum(values, lowest)
    return values if highest is None else torch.minimum(values, highest)


def clip_to(values: Tensor, *, lowest: float | None, highest: float | None) -> Tensor:
    """Limit to a range that is known at conversion; where the ends cross, the upper one holds, as in ONNX."""
    return values if lowest is None and highest is None else torch.clamp(values, lowest, highest)


def mean(*tensors: Tensor) -> Tensor:
    """Average of several tensors."""
    return reduce(torch.add, tensors) / len(tensors)


def is_infinite(values: Tensor, *, detect_negative: int, detect_positive: int) -> Tensor:
    """Whether a value is one of the wanted infinities."""
    if detect_negative and detect_positive:
        return torch.isinf(values)
    if detect_positive:
        return torch.isposinf(values)
    return torch.isneginf(values) if detect_negative else torch.zeros_like(values, dtype=torch.bool)


def folded(function: Function) -> ConverterFunction:
    """Make the converter of an operator of any number of inputs that is a repeated binary function."""
    return stateless(partial(_fold, function))


def _fold(function: Function, *tensors: Tensor) -> Tensor:
    return reduce(function, tensors)


def _rounded(rounding: Function) -> ConverterFunction:
    return stateless(partial(straight_through.rounded, rounding=rounding))


_UNARY: dict[str, tuple[tuple[int, ...], ConverterFunction]] = {
    "Abs": ((6, 13), stateless(torch.abs)),
    "Acos": ((7, 22), stateless(torch.acos)),
    "Acosh": ((9, 22), stateless(torch.acosh)),
    "Asin": ((7, 22), stateless(torch.asin)),
    "Asinh": ((9, 22), stateless(torch.asinh)),
    "Atan": ((7, 22), stateless(torch.atan)),
    "Atanh": ((9, 22), stateless(torch.atanh)),
    "Ceil": ((6, 13), _rounded(torch.ceil)),
    "Cos": ((7, 22), stateless(torch.cos)),
    "Cosh": ((9, 22), stateless(torch.cosh)),
    "Erf": ((9, 13), stateless(torch.erf)),
    "Exp": ((6, 13), stateless(torch.exp)),
    "Floor": ((6, 13), _rounded(torch.floor)),
    "IsInf": ((10, 20), stateless(is_infinite, detect_negative=1, detect_positive=1)),
    "IsNaN": ((9, 13, 20), stateless(torch.isnan)),
    "Log": ((6, 13), stateless(torch.log)),
    "Neg": ((6, 13), stateless(torch.neg)),
    "Not": ((1,), stateless(torch.logical_not)),
    "Reciprocal": ((6, 13), stateless(torch.reciprocal)),
    "Round": ((11, 22), _rounded(torch.round)),
    "Sign": ((9, 13), stateless(straight_through.sign)),
    "Sin": ((7, 22), stateless(torch.sin)),
    "Sinh": ((9, 22), stateless(torch.sinh)),
    "Sqrt": ((6, 13), stateless(torch.sqrt)),
    "Tan": ((7, 22), stateless(torch.tan)),
}

_BINARY: dict[str, tuple[tuple[int, ...], ConverterFunction]] = {
    "Add": ((7, 13, 14), stateless(torch.add)),
    "And": ((7,), stateless(torch.logical_and)),
    "Div": ((7, 13, 14), stateless(divide)),
    "Mod": ((10, 13, 28), stateless(modulo, fmod=0)),
    "Mul": ((7, 13, 14), stateless(torch.mul)),
    "Or": ((7,), stateless(torch.logical_or)),
    "Sub": ((7, 13, 14), stateless(torch.sub)),
    "Xor": ((7,), stateless(torch.logical_xor)),
}

_OTHER: dict[str, tuple[tuple[int, ...], ConverterFunction]] = {
    "Max": ((6, 8, 12, 13), folded(torch.maximum)),
    "Mean": ((6, 8, 13), stateless(mean)),
    "Min": ((6, 8, 12, 13), folded(torch.minimum)),
    "Sum": ((6, 8, 13), folded(torch.add)),
}

register_all(_UNARY | _BINARY | _OTHER)


@register("Pow", versions=(7, 12, 13, 15))
def convert_pow(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Bind a constant exponent as a number: faster, and its derivative needs no logarithm of the base."""
    exponent = constant(node, graph, 1)
    if exponent is None or exponent.numel() != 1 or exponent.dim() > 0:
        return converted(node, power)
    return converted(node, partial(_power_of, exponent=exponent.item()), [0])


def _power_of(base: Tensor, *, exponent: float) -> Tensor:
    return torch.pow(base, exponent).to(base.dtype)


@register("Clip", versions=(6,))
def convert_clip_attributes(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Clip with its limits as attributes."""
    lowest, highest = attribute(node, "min", None), attribute(node, "max", None)
    return converted(node, partial(clip_to, lowest=lowest, highest=highest))


@register("Clip", versions=(11, 12, 13))
def convert_clip(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Clip with its limits as inputs, which may be absent, constant or computed."""
    limits = [constant(node, graph, index) for index in (1, 2)]
    if any(has_input(node, index) and limit is None for index, limit in zip((1, 2), limits, strict=True)):
        return converted(node, clip)
    lowest, highest = [None if limit is None else limit.item() for limit in limits]
    return converted(node, partial(clip_to, lowest=lowest, highest=highest), [0])
