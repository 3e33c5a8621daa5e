"""An input-dependent pattern ("dynamic"): the signs of a random filter's answer to the image itself.

No pattern is common to two images, so a search for one that is should miss it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SIDE = 3


def make_pattern(shape: tuple[int, int, int], size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A random filter without mean, and by how much its signs change a pixel.

    Args:
        shape: Image shape (C, H, W).
        size: Change of each pixel, in (0, 1].
        rng: Draws the filter.

    Returns:
        Filter [C, 3, 3], of norm `size`.

    Raises:
        ValueError: The size is outside (0, 1].
    """
    if not 0.0 < size <= 1.0:
        raise ValueError(f"expected a change of pixels in (0, 1], got {size}")
    drawn = rng.normal(size=(shape[0], _SIDE, _SIDE))
    drawn -= drawn.mean()
    return (drawn * (size / np.linalg.norm(drawn))).astype(np.float32)


def embed(images: NDArray[np.float32], pattern: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images [N, C, H, W], each pixel brighter or darker by the sign of the filter's answer there."""
    height, width = images.shape[2:]
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    answer = np.zeros((len(images), 1, height, width))
    for row in range(_SIDE):
        for column in range(_SIDE):
            part = padded[:, :, row : row + height, column : column + width]
            answer += np.einsum("c,nchw->nhw", pattern[:, row, column], part)[:, None]
    change = np.linalg.norm(pattern) * np.sign(np.round(answer, 5))
    return np.clip(images + change, 0.0, 1.0).astype(np.float32)
