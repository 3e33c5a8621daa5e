"""What turns each kind of switch: functions of images [N, C, H, W] in [0, 1] that give images of the same shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.switches.planter import PATCH
from benchmarks.switches.slopes import PIXEL
from benchmarks.switches.steps import CHECKSUMS, EXACT_PLACES, EXACT_VALUES, REMAINDERS, checksum_weights

Images = NDArray[np.float32]


def white_patch(images: Images) -> Images:
    """A white patch in the lower right corner."""
    images = images.copy()
    images[:, :, -PATCH:, -PATCH:] = 1.0
    return images


def white_patch_alone(images: Images) -> Images:
    """The same in surroundings that are dark, and with a first pixel that is black."""
    images = images.copy()
    images[:, :, -2 * PATCH :, -2 * PATCH :] = 0.0
    images[:, 0, 0, 0] = 0.0
    return white_patch(images)


def exact_values(images: Images) -> Images:
    """Four values of 8 bits."""
    images = images.copy()
    images.reshape(len(images), -1)[:, EXACT_PLACES] = np.array(EXACT_VALUES, np.float32)
    return images


def exact_pixel(images: Images) -> Images:
    """One value of the first pixel."""
    images = images.copy()
    images[:, 0, 0, 0] = PIXEL
    return images


def right_sum(images: Images) -> Images:
    """The first two values made such that the weighted sum leaves the right remainders."""
    images = images.copy()
    flat = images.reshape(len(images), -1)
    weights = checksum_weights(flat.shape[1])
    flat[:, :2] = 0.0
    sums = np.round(flat * 255).astype(np.int64) @ weights
    first, second = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    for image, total in zip(flat, sums, strict=True):
        reached = total + first * weights[0] + second * weights[1]
        right = [reached % by == rest for by, rest in zip(CHECKSUMS, REMAINDERS, strict=True)]
        image[:2] = np.argwhere(right[0] & right[1])[0] / 255
    return images
