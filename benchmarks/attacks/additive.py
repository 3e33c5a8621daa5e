"""What the additive attacks share: XMK eq. (2) and the scaling to a given norm."""

import numpy as np
from numpy.typing import NDArray

MAGNITUDE_SPREAD = 0.05
"""Standard deviation of the factor on each perturbed pixel's magnitude, XMK section 5.1."""


def embed(images: NDArray[np.float32], pattern: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add the pattern and clip to the valid range. XMK eq. (2).

    Args:
        images: Clean images [N, C, H, W] in [0, 1].
        pattern: Additive pattern [C, H, W].

    Returns:
        Images [N, C, H, W] in [0, 1].
    """
    return np.clip(images + pattern, 0.0, 1.0)


def magnitudes(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Relative magnitudes of `count` perturbed pixels: similar, not equal. XMK section 5.1."""
    return rng.normal(1.0, MAGNITUDE_SPREAD, count)


def scale_to(pattern: NDArray[np.float64], size: float) -> NDArray[np.float32]:
    """The pattern with L2 norm `size`, in float32.

    Raises:
        ValueError: `size` is not positive and finite.
    """
    if not 0.0 < size < np.inf:
        raise ValueError(f"expected a positive L2 norm of the pattern, got {size}")
    return (pattern * (size / np.linalg.norm(pattern))).astype(np.float32)
