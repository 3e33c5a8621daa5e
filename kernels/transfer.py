"""Expected transferability: how often the pattern of one image moves another, with its error."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FEWEST_IMAGES = 3
"""Images without which there is no error."""


def transferability(moved: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean over ordered pairs of two images, a U-statistic, and its jackknife standard error.

    Args:
        moved: Whether image j goes to the target with the pattern of image i, [N, N]; the diagonal does not count.

    Returns:
        The mean, and its standard error over the images.

    Raises:
        ValueError: Fewer than three images, or no square.
    """
    if moved.ndim != 2 or moved.shape[0] != moved.shape[1] or len(moved) < FEWEST_IMAGES:
        raise ValueError(f"expected a square of at least {FEWEST_IMAGES} images, found shape {moved.shape}")
    number = len(moved)
    counted = moved.astype(np.float64)
    np.fill_diagonal(counted, 0.0)
    total = counted.sum()
    # Without image i neither its row nor its column counts.
    without = (total - counted.sum(axis=0) - counted.sum(axis=1)) / ((number - 1) * (number - 2))
    variance = (number - 1) / number * np.square(without - without.mean()).sum()
    return float(total / (number * (number - 1))), math.sqrt(float(variance))
