"""Patterns of stripes: sines of every whole frequency along rows and along columns, the same in all channels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from backscan.kernels.embedding import add
from backscan.scanner.results import SpaceRecord
from backscan.scanner.search.spaces.base import Array, Shape, even_grey, evenly, half_of_range, other_places

if TYPE_CHECKING:
    from torch import Tensor


_WORDS = SpaceRecord(
    name="sinusoidal",
    about="stripes are added to all channels of the image: sines along its rows and along its columns",
    unit="the amplitudes of the waves, in L2 the change of pixels",
    limit="in L2 half of black-to-white everywhere",
    card="an even grey image",
)


@dataclass(frozen=True, slots=True)
class Sinusoidal:
    """[x + stripes]_c; the pattern has the amplitudes of a sine and a cosine for every frequency of each side.

    The waves are orthonormal over the image and its channels, so the L2 norm of the amplitudes is that of pixels.
    """

    words: SpaceRecord = _WORDS
    """What reports say of it."""
    first_share: float = 0.02
    """First step of the pilots, as a share of the largest size."""

    def pattern_shape(self, shape: Shape) -> Shape:
        """Waves from top to bottom, then those from left to right."""
        return (sum(len(_waves(side)) for side in shape[1:]),)

    def largest(self, shape: Shape) -> Array:
        """As much of every wave, together half of black-to-white."""
        return evenly(self.pattern_shape(shape), half_of_range(shape))

    def changed(self, images: Tensor, patterns: Tensor) -> Tensor:
        """[x + stripes]_c, [P, N, C, H, W]."""
        down, across = (patterns.new_tensor(_waves(side)) for side in images.shape[3:])
        lines, columns = patterns[:, : len(down)] @ down, patterns[:, len(down) :] @ across
        stripes = (
            _gain(tuple(images.shape[2:]), 1) * lines[:, :, None] + _gain(tuple(images.shape[2:]), 2) * columns[:, None]
        )
        return (images + stripes[:, None, None]).clamp(0.0, 1.0)

    def within(self, patterns: Tensor, points: Tensor) -> Tensor:
        """The patterns themselves: each acts on all pixels."""
        del points
        return patterns

    def replayed(self, images: Array, pattern: Array) -> Array:
        """[x + stripes]_c, [N, C, H, W]."""
        shape = images.shape[1:]
        down, across = (_waves(side) for side in shape[1:])
        lines, columns = pattern[: len(down)] @ down, pattern[len(down) :] @ across
        return add(images, (_gain(shape, 1) * lines[:, None] + _gain(shape, 2) * columns).astype(np.float32))

    def shuffled(self, pattern: Array, rng: np.random.Generator) -> Array:
        """Its amplitudes at other frequencies and places."""
        return other_places(pattern, rng)

    def card(self, shape: Shape) -> Array:
        """An even grey image."""
        return even_grey(shape)


@cache
def _waves(side: int) -> Array:
    """Sine and cosine of every frequency below that of every second pixel, of unit norm along the side, [k, side]."""
    turns = 2 * np.pi * np.arange(1, max(2, (side + 1) // 2))[:, None] * np.arange(side) / side
    basis = np.stack([np.sin(turns), np.cos(turns)], axis=1).reshape(-1, side) * np.sqrt(2 / side)
    return np.asarray(basis, np.float32)


def _gain(shape: Shape, axis: int) -> float:
    """What gives waves along one axis unit norm over an image."""
    return float((np.prod(shape) / shape[axis]) ** -0.5)
