"""Local patch replacement: a small square of noise takes the place of the image. XMK eq. (8)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backscan.kernels import embedding


def make_pattern(shape: tuple[int, int, int], size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A square of uniform noise at a random place.

    Args:
        shape: Image shape (C, H, W).
        size: Side of the square in pixels, a whole number that fits the image.
        rng: Draws the place and the noise.

    Returns:
        The replacing image and, as the last channel, its mask m in {0, 1}: [C + 1, H, W].

    Raises:
        ValueError: The side is not a whole number between 1 and the image's shorter side.
    """
    channels, height, width = shape
    if not 1 <= size <= min(height, width) or size != int(size):
        raise ValueError(f"expected a whole side between 1 and {min(height, width)} pixels, got {size}")
    side = int(size)
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    pattern = np.zeros((channels + 1, height, width), np.float32)
    pattern[:-1, top : top + side, left : left + side] = rng.random((channels, side, side))
    pattern[-1, top : top + side, left : left + side] = 1.0
    return pattern


def embed(images: NDArray[np.float32], pattern: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mix the replacing image in by its mask: x (1 - m) + v m. XMK eq. (8).

    Args:
        images: Clean images [N, C, H, W] in [0, 1].
        pattern: Replacing image in [0, 1] and mask in [0, 1] as the last channel: [C + 1, H, W].

    Returns:
        Images [N, C, H, W] in [0, 1].
    """
    return embedding.patch(images, pattern[:-1], pattern[-1:])
