"""Patterns that bend the image: every pixel is taken from a little beside its place, by a common smooth field."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.results import SpaceRecord
from backscan.scanner.search.spaces.base import Array, Shape, other_places

if TYPE_CHECKING:
    from torch import Tensor

_POINTS = 4
"""Points of the grid a side, between which the field is smooth; as in WaNet (Nguyen and Tran, ICLR 2021)."""
_LARGEST_SHARE = 0.25
_SQUARES = 8
_BEND = -0.75  # of the cubic between points, as image libraries choose it


_WORDS = SpaceRecord(
    name="warp",
    about="every pixel is taken from beside its place, by a common smooth field",
    unit="the displacements of a grid of 4 x 4 points, in pixels",
    limit="a quarter of the side at every point of the grid",
    card="a chessboard",
)


@dataclass(frozen=True, slots=True)
class Warp:
    """x(p + u(p)), between pixels by lines; u is a cubic through the pattern, displacements [2, 4, 4] in pixels.

    The first is down, the second to the right. What would come from outside the image comes from its edge.
    """

    words: SpaceRecord = _WORDS
    """What reports say of it."""
    first_share: float = 0.02
    """First step of the pilots, as a share of the largest size."""

    def pattern_shape(self, shape: Shape) -> Shape:
        """Rows, then columns, at every point; no more points than pixels."""
        return (2, *(min(_POINTS, side) for side in shape[1:]))

    def largest(self, shape: Shape) -> Array:
        """A quarter of the shorter side."""
        return np.full(self.pattern_shape(shape), _LARGEST_SHARE * min(shape[1:]), np.float32)

    def changed(self, images: Tensor, patterns: Tensor) -> Tensor:
        """x(p + u(p)), [P, N, C, H, W]."""
        height, width = images.shape[3:]
        rows, columns = (patterns.new_tensor(_cubic(side)) for side in (height, width))
        field = rows @ patterns @ columns.mT
        down = (field[:, 0] + patterns.new_tensor(np.arange(height))[:, None]).clamp(0, height - 1)
        right = (field[:, 1] + patterns.new_tensor(np.arange(width))).clamp(0, width - 1)
        # The last pixel lies at the end of its cell, so that it has a slope as well.
        top = down.detach().floor().clamp_max(max(0, height - 2))
        left = right.detach().floor().clamp_max(max(0, width - 2))
        flat = images.flatten(3)

        def at(lower: int, farther: int) -> Tensor:
            places = (top + lower).clamp_max(height - 1) * width + (left + farther).clamp_max(width - 1)
            index = places.long().flatten(1)[:, None, None].expand(flat.shape)
            return flat.gather(3, index).reshape(images.shape)

        below, beside = (down - top)[:, None, None], (right - left)[:, None, None]
        upper = at(0, 0) * (1 - beside) + at(0, 1) * beside
        lower = at(1, 0) * (1 - beside) + at(1, 1) * beside
        return upper * (1 - below) + lower * below

    def within(self, patterns: Tensor, points: Tensor) -> Tensor:
        """The patterns themselves: no pixel leaves its range."""
        del points
        return patterns

    def replayed(self, images: Array, pattern: Array) -> Array:
        """x(p + u(p)), [N, C, H, W]."""
        height, width = images.shape[2:]
        field = _cubic(height) @ pattern @ _cubic(width).T
        down = np.clip(field[0] + np.arange(height, dtype=np.float32)[:, None], 0, height - 1)
        right = np.clip(field[1] + np.arange(width, dtype=np.float32), 0, width - 1)
        top, left = np.floor(down).astype(int), np.floor(right).astype(int)
        bottom, end = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
        below, beside = (down - top).astype(np.float32), (right - left).astype(np.float32)
        upper = images[..., top, left] * (1 - beside) + images[..., top, end] * beside
        lower = images[..., bottom, left] * (1 - beside) + images[..., bottom, end] * beside
        return np.asarray(upper * (1 - below) + lower * below, np.float32)

    def shuffled(self, pattern: Array, rng: np.random.Generator) -> Array:
        """Its displacements at other points of the grid, and turned by a random angle."""
        moved, angle = other_places(pattern, rng), rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
        return np.asarray(np.tensordot(turn, moved, axes=1), np.float32)

    def card(self, shape: Shape) -> Array:
        """A chessboard of eight squares a side."""
        rows, columns = (np.arange(side) * _SQUARES // side for side in shape[1:])
        light = (rows[:, None] + columns) % 2
        return np.broadcast_to(np.where(light == 1, 0.75, 0.25), shape).astype(np.float32)


@cache
def _cubic(side: int) -> Array:
    """What each pixel of a side takes of the points, whose first and last lie on its ends: [side, points]."""
    points = min(_POINTS, side)
    weights = np.zeros((side, points))
    for pixel in range(side):
        place = pixel * (points - 1) / max(1, side - 1)
        first = min(int(place), points - 1)
        for point in range(first - 1, first + 3):
            weights[pixel, min(max(point, 0), points - 1)] += _kernel(abs(place - point))
    return weights.astype(np.float32)


def _kernel(distance: float) -> float:
    """The cubic through points at a distance of one."""
    if distance <= 1:
        return (_BEND + 2) * distance**3 - (_BEND + 3) * distance**2 + 1
    if distance < 2:
        return _BEND * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return 0.0
