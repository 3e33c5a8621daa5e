"""Images that no gradient leads to: flat, chequered and noisy ones, on the pixels that a gate reads.

A gate that opens at one exact value, or so steeply that nothing can be seen before it opens, has no slope to follow.
Planted ones read few pixels, so that plain fillings of these are tried: all dark, all bright, every grey.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Images = NDArray[np.float32]
    Values = Callable[[Images], Sequence[NDArray[Any]]]

_MOST_BLOCKS = 24
"""Blocks of the image, at one size of block, beyond which a gate counts as reading all of it."""
_GREYS = 256
_ROUNDING = 1e-5
"""Relative change of a value that may come from another order of sums, as in calls of another size."""
_MOST_CORNERS = 8
"""Numbers up to which every one of them is tried dark and bright by itself."""


def wild_images(shape: tuple[int, int, int]) -> Images:
    """Whole images [N, C, H, W] in [0, 1] unlike ordinary ones: dark, bright, chequered both ways, noisy."""
    board = np.broadcast_to(np.indices(shape[1:]).sum(axis=0) % 2, shape)
    noise = np.random.default_rng(0).random((2, *shape))
    return np.stack([np.zeros(shape), np.ones(shape), board, 1 - board, *noise]).astype(np.float32)


def pixels_read(values: Values, image: Images) -> NDArray[np.bool_] | None:
    """Which pixels some values depend on, found by changing smaller and smaller blocks of an image.

    Args:
        values: Images [N, C, H, W] -> arrays [N, ...] of what is watched.
        image: The image to change, [C, H, W].

    Returns:
        [H, W]; None where that is so much of the image that it is no patch.
    """
    height, width = image.shape[1:]
    before = values(image[None])
    blocks = [(0, height, 0, width)]
    while any(bottom - top > 1 or right - left > 1 for top, bottom, left, right in blocks):
        parts = [part for block in blocks for part in _quarters(*block)]
        moved = _moving(values, image, before, parts)
        blocks = [part for index, part in enumerate(parts) if moved[:, index].any()]
        area = sum((bottom - top) * (right - left) for top, bottom, left, right in blocks)
        if len(blocks) > (_MOST_BLOCKS if area > height * width // 4 else 4 * _MOST_BLOCKS):
            return None
    read = np.zeros((height, width), bool)
    for top, bottom, left, right in blocks:
        read[top:bottom, left:right] = True
    return read if read.any() and not read.all() else None


def fillings(read: NDArray[np.bool_], channels: int) -> Images:
    """What to fill some pixels with, [N, C, number of pixels]: every grey, chequers, noise.

    Args:
        read: The pixels, [H, W].
        channels: Channels of the image.
    """
    shape = (channels, int(read.sum()))
    greys = np.arange(_GREYS, dtype=np.float32)[::-1, None, None] / np.float32(_GREYS - 1)
    filled = [np.broadcast_to(greys, (_GREYS, *shape)), wild_images((channels, *read.shape))[2:, :, read]]
    count = shape[0] * shape[1]
    if count <= _MOST_CORNERS:
        bits = np.arange(1 << count)[:, None] >> np.arange(count) & 1
        filled.append(bits.reshape(-1, *shape).astype(np.float32))
    return np.concatenate(filled)


def filled(image: Images, read: NDArray[np.bool_], patches: Images) -> Images:
    """An image [C, H, W] with some of its pixels filled, once for each patch [N, C, number of pixels]."""
    images = np.repeat(image[None], len(patches), axis=0)
    images[:, :, read] = patches
    return images


def _quarters(top: int, bottom: int, left: int, right: int) -> list[tuple[int, int, int, int]]:
    """A block in up to four parts, none of them empty."""
    middle, centre = (top + bottom + 1) // 2, (left + right + 1) // 2
    parts = [(a, b, c, d) for a, b in ((top, middle), (middle, bottom)) for c, d in ((left, centre), (centre, right))]
    return [part for part in parts if part[0] < part[1] and part[2] < part[3]]


def moved_blocks(values: Values, image: Images, *, parts: int = 4) -> NDArray[np.bool_]:
    """Which blocks of an image move which of some values.

    Args:
        values: Images [N, C, H, W] -> arrays [N, ...] of what is watched.
        image: The image to change, [C, H, W].
        parts: Blocks along each axis, as far as it is that long.

    Returns:
        [number of values, number of blocks].
    """
    rows, columns = (np.array_split(np.arange(size), min(parts, size)) for size in image.shape[1:])
    blocks = [(row[0], row[-1] + 1, column[0], column[-1] + 1) for row in rows for column in columns]
    return _moving(values, image, values(image[None]), blocks)


@np.errstate(invalid="ignore")
def _moving(
    values: Values, image: Images, before: Sequence[NDArray[Any]], parts: Sequence[tuple[int, int, int, int]]
) -> NDArray[np.bool_]:
    """Which blocks move which value when they are made dark, bright or noisy, [number of values, number of blocks]."""
    moves = np.zeros((len(before), len(parts)), bool)
    for other in wild_images(image.shape)[[0, 1, 4]]:
        changed = np.repeat(image[None], len(parts), axis=0)
        for one, (top, bottom, left, right) in zip(changed, parts, strict=True):
            one[:, top:bottom, left:right] = other[:, top:bottom, left:right]
        for moved, first, now in zip(moves, before, values(changed), strict=True):
            gaps = np.abs(now.astype(np.float64) - first.astype(np.float64)).reshape(len(parts), -1)
            tolerance = _ROUNDING * float(np.abs(first.astype(np.float64)).max(initial=0))
            moved |= ~(gaps.max(axis=1, initial=0) <= tolerance)  # what is not a number moved too
    return moves
