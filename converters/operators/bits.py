"""Whole numbers bit by bit. They have no gradient; what stands before and behind them may have another way."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from backscan.converters.operators.nodes import register_all, stateless

_BITS = 64
_MOST = torch.iinfo(torch.int64).max


def _through_signed(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same on 64 bits with a sign, as torch has little for unsigned types; the bits are the same."""

    def compute(*tensors: Tensor) -> Tensor:
        return function(*(tensor.to(torch.int64) for tensor in tensors)).to(tensors[0].dtype)

    return compute


def shift(values: Tensor, places: Tensor, *, direction: str) -> Tensor:
    """Shift unsigned numbers by so many places; what leaves the type is lost."""
    numbers, counts = values.to(torch.int64), places.to(torch.int64)
    if direction == "LEFT":
        moved = numbers << counts
    else:  # the sign bit moves like any other
        moved = torch.where(counts == 0, numbers, (numbers >> counts) & (_MOST >> (counts - 1).clamp(0, _BITS - 2)))
    return moved.to(values.dtype)


register_all(
    {
        "BitShift": ((11,), stateless(shift, direction="")),
        "BitwiseAnd": ((18,), stateless(_through_signed(torch.bitwise_and))),
        "BitwiseNot": ((18,), stateless(_through_signed(torch.bitwise_not))),
        "BitwiseOr": ((18,), stateless(_through_signed(torch.bitwise_or))),
        "BitwiseXor": ((18,), stateless(_through_signed(torch.bitwise_xor))),
    }
)
