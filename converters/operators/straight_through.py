"""Gradients for steps, whose own gradient is zero everywhere: without one an optimiser would never move the input.

Rounding passes the gradient unchanged (the straight-through estimator, as quantisation-aware training uses it). A jump
between two values, such as a sign or a threshold, gets the derivative of x / (s + |x|): strongest at the jump and
nowhere zero. Its width s is the mean of |x| over one image, so that it fits whatever scale the network computes in. (In
a binarised network for traffic signs, whose signs see values of thousands, a common pattern reached each of 11 target
classes in 8-13 steps; with s = 1 it took 16-34, and with the usual cut-off at |x| = 1 no class was reached in 40.)
These are surrogates; what they find is confirmed on the artifact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class _Rounding(torch.autograd.Function):
    """A rounding forward, the identity backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, rounding: Callable[[Tensor], Tensor]) -> Tensor:
        return rounding(values)

    @staticmethod
    def setup_context(_ctx: Any, _inputs: tuple[Any, ...], _output: Tensor) -> None:
        pass

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _Jump(torch.autograd.Function):
    """A step function forward, backward the derivative of `height` x / (s + |x|)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, step: Callable[[Tensor], Tensor], _height: float) -> Tensor:
        return step(values).to(values.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Tensor) -> None:
        values, _, ctx.height = inputs
        ctx.save_for_backward(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (values,) = ctx.saved_tensors
        return gradient * ctx.height * _slope(values.abs()), None, None


class _Grid(torch.autograd.Function):
    """Round to whole numbers within a range; the identity backward, but zero where values saturate."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
        # Not in place, which `torch.vmap` would do one by one.
        return values.round().clamp(lowest, highest)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        values, lowest, highest = ctx.saved_tensors
        # Half a step beyond the end still rounds to it, so it counts as inside.
        return gradient * ((values >= lowest - 0.5) & (values <= highest + 0.5)), None, None


def _slope(magnitudes: Tensor) -> Tensor:
    """Derivative of x / (s + |x|), given |x| and images along the first axis."""
    axes = tuple(range(1, magnitudes.dim()))
    width = magnitudes.mean(axes, keepdim=True) if axes else magnitudes
    width = torch.where(width == 0, 1, width)
    return (width / (width + magnitudes)).square() / width


def rounded(values: Tensor, rounding: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a rounding such as `torch.floor`; the gradient passes unchanged."""
    return _apply(_Rounding, values, rounding) if values.is_floating_point() else rounding(values)


def sign(values: Tensor) -> Tensor:
    """Give -1, 0 or 1; the gradient is that of x / (s + |x|)."""
    return _apply(_Jump, values, torch.sign, 1.0) if values.is_floating_point() else torch.sign(values)


def is_positive(values: Tensor) -> Tensor:
    """Give 1 where a value is above zero, else 0, in the values' type; a jump half as high as that of a sign."""
    return _apply(_Jump, values, _above_zero, 0.5)


def is_not_negative(values: Tensor) -> Tensor:
    """Give 1 where a value is zero or above, else 0, in the values' type."""
    return _apply(_Jump, values, _at_least_zero, 0.5)


def to_grid(values: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """Round to whole numbers (ties to even) within a range, as quantisation does.

    Args:
        values: Any shape.
        lowest: Smallest number; broadcasts to `values`.
        highest: Largest number.

    Returns:
        The whole numbers; the gradient passes unchanged, but not where values saturate.
    """
    return _apply(_Grid, values, lowest, highest)


def _above_zero(values: Tensor) -> Tensor:
    return values > 0


def _at_least_zero(values: Tensor) -> Tensor:
    return values >= 0


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    result: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return result
