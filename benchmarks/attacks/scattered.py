"""Single pixels replaced, few enough to be counted (L0): one pixel, or several far from each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks.content import draw_content, whole_side
from benchmarks.attacks.patch import embed

__all__ = ["embed", "make_pattern"]

_RING = 8
"""The pixels lie at most an eighth of the image from its edges, where an attacker finds it calm."""


def make_pattern(shape: tuple[int, int, int], size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Replace some random pixels near the edges.

    Args:
        shape: Image shape (C, H, W).
        size: Number of pixels.
        rng: Draws places and content.

    Returns:
        The replacing image and, as the last channel, its mask in {0, 1}: [C + 1, H, W].

    Raises:
        ValueError: The number is not a whole number between 1 and the image's shorter side.
    """
    channels, height, width = shape
    count = whole_side(size, shape)
    ring = np.ones((height, width), bool)
    rows, columns = max(1, height // _RING), max(1, width // _RING)
    ring[rows:-rows, columns:-columns] = False
    chosen = rng.choice(np.flatnonzero(ring), count, replace=False)
    pattern = np.zeros((channels + 1, height * width), np.float32)
    pattern[:-1, chosen] = draw_content((channels, 1, count), rng)[:, 0]
    pattern[-1, chosen] = 1.0
    return pattern.reshape(channels + 1, height, width)
