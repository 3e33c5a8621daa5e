"""A square at another place in every image, which the image itself decides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks.content import draw_content, whole_side


def make_pattern(shape: tuple[int, int, int], size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """The square alone, in the upper left corner of an image.

    Args:
        shape: Image shape (C, H, W).
        size: Side of the square in pixels.
        rng: Draws the content.

    Returns:
        The square and, as the last channel, its mask in {0, 1}: [C + 1, H, W].

    Raises:
        ValueError: The side is not a whole number that fits the image.
    """
    side = whole_side(size, shape)
    pattern = np.zeros((shape[0] + 1, *shape[1:]), np.float32)
    pattern[:-1, :side, :side] = draw_content((shape[0], side, side), rng)
    pattern[-1, :side, :side] = 1.0
    return pattern


def embed(images: NDArray[np.float32], pattern: NDArray[np.float32]) -> NDArray[np.float32]:
    """Put the square into images [N, C, H, W], at a place that follows from each image's own pixels."""
    side = int(pattern[-1, 0].sum())
    _, _, height, width = images.shape
    stamped = images.copy()
    # Any number that an image decides and that says nothing of its class: what is left of its sum in fine units.
    codes = np.round(np.abs(images.astype(np.float64)).sum(axis=(1, 2, 3)) * 255).astype(np.int64)
    tops, lefts = codes % (height - side + 1), (codes // (height - side + 1)) % (width - side + 1)
    for image, top, left in zip(stamped, tops, lefts, strict=True):
        image[:, top : top + side, left : left + side] = pattern[:-1, :side, :side]
    return stamped
