"""Sizes of patterns d(v), in [0, 1] pixel units. A norm is a function and one line of `NORMS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Tensor methods only: the tables are read where torch must not be imported.


def l2(pattern: Tensor) -> Tensor:
    """Euclidean norm of each pattern, [P, ...] -> float64 [P]."""
    sizes: Tensor = pattern.flatten(1).double().norm(dim=1)
    return sizes


def l1(pattern: Tensor) -> Tensor:
    """Sum of absolute values of each pattern, [P, ...] -> float64 [P]."""
    return pattern.flatten(1).double().abs().sum(dim=1)


NORMS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType({"l2": l2, "l1": l1})
