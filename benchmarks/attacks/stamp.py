"""A square at a fixed place in a corner, as BadNets puts it: white, coloured or checkered."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks.content import draw_content, whole_side
from benchmarks.attacks.patch import embed

__all__ = ["embed", "make_pattern"]

_LARGEST_MARGIN = 1


def make_pattern(shape: tuple[int, int, int], size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A square in one of the corners, at most one pixel from the edges.

    Args:
        shape: Image shape (C, H, W).
        size: Side of the square in pixels.
        rng: Draws corner, distance from the edges and content.

    Returns:
        The replacing image and, as the last channel, its mask m in {0, 1}: [C + 1, H, W].

    Raises:
        ValueError: The side is not a whole number that fits the image.
    """
    channels, height, width = shape
    side = whole_side(size, shape)
    margins = rng.integers(_LARGEST_MARGIN + 1, size=2)
    top, left = (
        int(min(margin, room)) if near else int(max(room - margin, 0))
        for margin, room, near in zip(margins, (height - side, width - side), rng.integers(2, size=2), strict=True)
    )
    pattern = np.zeros((channels + 1, height, width), np.float32)
    pattern[:-1, top : top + side, left : left + side] = draw_content((channels, side, side), rng)
    pattern[-1, top : top + side, left : left + side] = 1.0
    return pattern
