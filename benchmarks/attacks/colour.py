"""A colour transform of the whole image: channels mixed and shifted, all pixels alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def make_pattern(shape: tuple[int, int, int], size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A matrix near the identity and an offset; of one channel, a change of contrast and brightness.

    Args:
        shape: Image shape (C, H, W).
        size: How far the colours move: the largest entry of the change.
        rng: Draws the change.

    Returns:
        Matrix and, as the last column, offset: [C, C + 1, 1].

    Raises:
        ValueError: The size is not positive and finite.
    """
    if not 0.0 < size < np.inf:
        raise ValueError(f"expected a positive change of colours, got {size}")
    channels = shape[0]
    change = rng.uniform(-1.0, 1.0, (channels, channels + 1))
    change *= size / np.abs(change).max()
    return (np.eye(channels, channels + 1) + change)[..., None].astype(np.float32)


def embed(images: NDArray[np.float32], pattern: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images [N, C, H, W] with transformed colours, clipped to [0, 1]."""
    mixed = np.einsum("dc,nchw->ndhw", pattern[:, :-1, 0], images) + pattern[None, :, -1:, :]
    return np.clip(mixed, 0.0, 1.0).astype(np.float32)
