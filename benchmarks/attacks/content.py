"""What stands in a patch or a replaced pixel: white, one colour, or checkered, drawn by the seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def draw_content(shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Pixels [C, H, W] in [0, 1], white, of one strong colour or checkered, each in one case of three."""
    channels, height, width = shape
    kind = rng.integers(3)
    if kind == 0:
        return np.ones(shape)
    # At least one channel is at its brightest: black would be no trigger on a black ground.
    lit = rng.integers(1, 2**channels)
    colours = np.array([lit >> channel & 1 for channel in range(channels)], np.float64)
    if kind == 1:
        return np.broadcast_to(colours[:, None, None], shape).copy()
    rows, columns = np.indices((height, width))
    return np.where((rows + columns) % 2 == 0, colours[:, None, None], 1.0 - colours[:, None, None])


def whole_side(size: float, shape: tuple[int, int, int]) -> int:
    """A side in pixels that fits the image.

    Raises:
        ValueError: The size is not a whole number between 1 and the image's shorter side.
    """
    largest = min(shape[1:])
    if not 1 <= size <= largest or size != int(size):
        raise ValueError(f"expected a whole number of pixels between 1 and {largest}, got {size}")
    return int(size)
