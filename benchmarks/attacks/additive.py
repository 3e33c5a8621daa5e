"""What the additive attacks share: magnitudes that vary a little, and the scaling to a given norm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAGNITUDE_SPREAD = 0.05
"""Standard deviation of the factor on each perturbed pixel's magnitude, XMK section 5.1."""


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
