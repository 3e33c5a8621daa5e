"""How a pattern enters images, on numpy batches: the twin of the scanner's torch code for replay and attacks.

All functions take float32 images [N, C, H, W] and a pattern [C, H, W] (or one that broadcasts), return new float32
arrays and equal the same expression with `torch.clamp` bit for bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Bounds = tuple[float, float]

UNIT_BOUNDS: Bounds = (0.0, 1.0)


def clip(images: Images, bounds: Bounds = UNIT_BOUNDS) -> Images:
    """Images held to the valid range, [.]_c of XMK eq. (2).

    Args:
        images: float32, any shape.
        bounds: Least and largest valid value.

    Returns:
        float32 of the same shape.

    Raises:
        ValueError: `images` is not float32, or the bounds are reversed.
    """
    _require_float32(images=images)
    low, high = bounds
    if not low <= high:
        raise ValueError(f"expected bounds (low, high) in order, found {bounds}")
    return np.clip(images, np.float32(low), np.float32(high))


def add(images: Images, pattern: Images, bounds: Bounds = UNIT_BOUNDS) -> Images:
    """Additive embedding [x + v]_c, XMK eq. (2).

    Args:
        images: float32 [N, C, H, W].
        pattern: Perturbation v, float32, broadcasts to the images.
        bounds: Least and largest valid value.

    Returns:
        float32 [N, C, H, W].

    Raises:
        ValueError: an array is not float32.
    """
    _require_float32(images=images, pattern=pattern)
    return clip(images + pattern, bounds)


def multiply(images: Images, factor: Images, bounds: Bounds = UNIT_BOUNDS) -> Images:
    """Multiplicative embedding [x u]_c, element by element, XMK section 5.2.3.

    Args:
        images: float32 [N, C, H, W].
        factor: Scaling factor u of each element, float32, broadcasts to the images.
        bounds: Least and largest valid value.

    Returns:
        float32 [N, C, H, W].

    Raises:
        ValueError: an array is not float32.
    """
    _require_float32(images=images, factor=factor)
    return clip(images * factor, bounds)


def patch(images: Images, pattern: Images, mask: Images) -> Images:
    """Patch replacement x (1 - m) + v m, XMK eq. (8).

    Args:
        images: float32 [N, C, H, W].
        pattern: What replaces the image, float32, broadcasts to the images.
        mask: Weights in [0, 1], float32, [H, W] or broadcasting: 0 keeps the image, 1 replaces it.

    Returns:
        float32 [N, C, H, W].

    Raises:
        ValueError: an array is not float32, or the mask leaves [0, 1].
    """
    _require_float32(images=images, pattern=pattern, mask=mask)
    if not (np.all(mask >= 0.0) and np.all(mask <= 1.0)):
        raise ValueError(f"expected a mask in [0, 1], found values from {mask.min()} to {mask.max()}")
    blended: Images = images * (np.float32(1.0) - mask) + pattern * mask
    return blended


def _require_float32(**arrays: Images) -> None:
    """Refuse other types: they would be rounded differently from torch's float32."""
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise ValueError(f"expected {name} as float32, found {array.dtype}: convert before embedding")
