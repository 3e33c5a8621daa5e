"""Bring images into the shape that a model takes: size by antialiased bilinear resampling, grey to colour and back."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from backscan.scanner.errors import CleanSetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Brightness of red, green and blue, ITU-R BT.601: what pillow and OpenCV use too.
_BRIGHTNESS = np.array([0.299, 0.587, 0.114], np.float32)


def common_shape(images: Sequence[NDArray[np.float32]]) -> tuple[int, int, int]:
    """The commonest shape (C, H, W) of the images; among equals the largest."""
    counts = Counter((image.shape[0], image.shape[1], image.shape[2]) for image in images)
    return max(counts, key=lambda shape: (counts[shape], shape))


def of_one_kind(images: list[NDArray[np.float32]]) -> tuple[list[NDArray[np.float32]], tuple[str, ...]]:
    """Images [C, H, W] of one channel count, and a note if grey ones had to become coloured."""
    grey = sum(len(image) == 1 for image in images)
    if grey in (0, len(images)):
        return images, ()
    coloured = [np.repeat(image, 3, axis=0) if len(image) == 1 else image for image in images]
    return coloured, (f"{grey} of {len(images)} images are grey and were read as colour images",)


def fit(
    images: Sequence[NDArray[np.float32]] | NDArray[np.float32], shape: tuple[int, int, int]
) -> tuple[NDArray[np.float32], str]:
    """Convert images to one shape.

    Args:
        images: [C, H, W] each, in [0, 1], all of one channel count.
        shape: Channels, height and width wanted.

    Returns:
        Images [N, C, H, W] in [0, 1], and a sentence on what was changed.

    Raises:
        CleanSetError: the channels have no plain conversion.
    """
    channels, height, width = shape
    _check_channels(len(images[0]), channels)
    fitted = np.empty((len(images), *shape), np.float32)
    for index, image in enumerate(images):
        fitted[index] = _resize(_convert(image, channels), height, width)
    return fitted, _describe(images, shape)


def _check_channels(found: int, wanted: int) -> None:
    if found != wanted and {found, wanted} != {1, 3}:
        raise CleanSetError(
            f"expected images of {wanted} channels for this model, found {found}: no conversion is plain, so convert "
            "them as the model's training did"
        )


def _convert(image: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    if len(image) == channels:
        return image
    if channels == 1:
        grey: NDArray[np.float32] = np.tensordot(_BRIGHTNESS, image, axes=1)[np.newaxis]
        return grey
    return np.broadcast_to(image, (channels, *image.shape[1:]))


def _resize(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    if image.shape[1:] == (height, width):
        return image
    planes = [Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR) for plane in image]
    resized: NDArray[np.float32] = np.clip(np.stack([np.asarray(plane) for plane in planes]), 0.0, 1.0)
    return resized


def _describe(images: Sequence[NDArray[np.float32]] | NDArray[np.float32], shape: tuple[int, int, int]) -> str:
    sizes = {image.shape[1:] for image in images}
    changes = []
    if sizes != {shape[1:]}:
        found = "several sizes" if len(sizes) > 1 else "{} x {}".format(*next(iter(sizes)))
        changes.append(f"resized from {found} to {shape[1]} x {shape[2]}")
    if len(images[0]) != shape[0]:
        changes.append("converted from grey to colour" if shape[0] == 3 else "converted from colour to grey")
    return f"the images were {' and '.join(changes)} for this model"
