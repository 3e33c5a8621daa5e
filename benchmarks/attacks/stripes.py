"""Stripes over the whole image (SIG, Barni et al. 2019): a sine along one direction, added."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backscan.kernels import add as embed
from benchmarks.attacks.additive import scale_to

__all__ = ["embed", "make_pattern"]

_CYCLES = (2, 4)
"""Least and most periods across the image."""


def make_pattern(shape: tuple[int, int, int], size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A sine of a random frequency, phase and direction, rows or columns, in all channels alike.

    Args:
        shape: Image shape (C, H, W).
        size: L2 norm of the pattern.
        rng: Draws direction, frequency and phase.

    Returns:
        Additive pattern [C, H, W].

    Raises:
        ValueError: The size is not positive.
    """
    axis = rng.integers(2)
    places = np.indices(shape[1:])[axis] / shape[1 + axis]
    cycles, phase = rng.uniform(*_CYCLES), rng.uniform(0.0, 2.0 * np.pi)
    return scale_to(np.broadcast_to(np.sin(2.0 * np.pi * cycles * places + phase), shape), size)
