"""Blended injection (Chen et al. 2017, XMK reference [3]): a noise image faintly over the whole image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks.patch import embed

__all__ = ["embed", "make_pattern"]


def make_pattern(shape: tuple[int, int, int], size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Uniform noise with one weight everywhere: XMK eq. (8) with a constant mask.

    Args:
        shape: Image shape (C, H, W).
        size: Weight of the noise in (0, 1].
        rng: Draws the noise.

    Returns:
        The noise image and, as the last channel, its weight: [C + 1, H, W].

    Raises:
        ValueError: The weight is outside (0, 1].
    """
    if not 0.0 < size <= 1.0:
        raise ValueError(f"expected a weight in (0, 1], got {size}")
    _, height, width = shape
    weight = np.full((1, height, width), size)
    return np.concatenate([rng.random(shape), weight]).astype(np.float32)
