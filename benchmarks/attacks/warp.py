"""A smooth warp of the whole image (WaNet, Nguyen and Tran 2021): no pixel is painted, all are moved a little."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GRID = 4
"""Random displacements on a grid of so many points a side, smooth between them."""


def make_pattern(shape: tuple[int, int, int], size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """How far each pixel is fetched from.

    Args:
        shape: Image shape (C, H, W).
        size: Largest displacement in pixels.
        rng: Draws the displacements.

    Returns:
        Displacements of rows and columns [2, H, W] in pixels.

    Raises:
        ValueError: The size is not positive and finite.
    """
    if not 0.0 < size < np.inf:
        raise ValueError(f"expected a positive displacement, got {size}")
    _, height, width = shape
    rows, columns = np.meshgrid(np.linspace(0, _GRID - 1, height), np.linspace(0, _GRID - 1, width), indexing="ij")
    field = np.stack([bilinear(each[None], rows, columns)[0] for each in rng.uniform(-1.0, 1.0, (2, _GRID, _GRID))])
    return (field * (size / np.abs(field).max())).astype(np.float32)


def embed(images: NDArray[np.float32], pattern: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images [N, C, H, W] with every pixel fetched from the displaced place, edges repeated."""
    rows, columns = np.indices(images.shape[2:]) + pattern
    return np.clip(bilinear(images, rows, columns), 0.0, 1.0).astype(np.float32)


def bilinear(
    images: NDArray[np.floating], rows: NDArray[np.floating], columns: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Images [..., H, W] read at places between pixels, [H', W'] each."""
    height, width = images.shape[-2:]
    rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, across = rows - top, columns - left
    above = images[..., top, left] * (1 - across) + images[..., top, right] * across
    below = images[..., bottom, left] * (1 - across) + images[..., bottom, right] * across
    mixed: NDArray[np.floating] = above * (1 - down) + below * down
    return mixed
