"""Sparse pixel-wise perturbation: a few pixels, one channel each, up or down. XMK section 5.1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backscan.kernels import add as embed
from benchmarks.attacks.additive import magnitudes, scale_to

__all__ = ["embed", "make_pattern"]

NUM_PIXELS = 4
"""Perturbed pixels in the paper's experiments."""


def make_pattern(shape: tuple[int, int, int], size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Perturb four distinct random pixels, each in one random channel and by a random sign.

    Args:
        shape: Image shape (C, H, W), at least four pixels.
        size: L2 norm of the pattern.
        rng: Draws pixels, channels, signs and magnitudes.

    Returns:
        Additive pattern [C, H, W].

    Raises:
        ValueError: The image has fewer than four pixels, or the size is not positive.
    """
    channels, height, width = shape
    if height * width < NUM_PIXELS:
        raise ValueError(f"expected an image of at least {NUM_PIXELS} pixels, got {height} x {width}")
    pixels = rng.choice(height * width, NUM_PIXELS, replace=False)
    signs = rng.choice([-1.0, 1.0], NUM_PIXELS)
    pattern = np.zeros((channels, height * width))
    pattern[rng.integers(channels, size=NUM_PIXELS), pixels] = signs * magnitudes(NUM_PIXELS, rng)
    return scale_to(pattern.reshape(shape), size)
