"""Patterns of low frequencies alone: a sum of the slowest waves of the discrete cosine transform is added."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from backscan.kernels.embedding import add
from backscan.scanner.results import SpaceRecord
from backscan.scanner.search.spaces.base import Array, Shape, even_grey, evenly, half_of_range, other_places

if TYPE_CHECKING:
    from torch import Tensor

_SHARE = 4
"""One in so many frequencies of each side is low."""


_WORDS = SpaceRecord(
    name="frequency",
    about="a sum of low frequencies is added to the image, a quarter of each side's (DCT)",
    unit="the coefficients, in L2 the change of pixels",
    limit="in L2 half of black-to-white everywhere",
    card="an even grey image",
)


@dataclass(frozen=True, slots=True)
class Frequency:
    """[x + D_h' v D_w]_c; v are coefficients [C, k_h, k_w] on an orthonormal basis: their L2 norm is that of pixels."""

    words: SpaceRecord = _WORDS
    """What reports say of it."""
    first_share: float = 0.02
    """First step of the pilots, as a share of the largest size."""

    def pattern_shape(self, shape: Shape) -> Shape:
        """A quarter of the frequencies of each side, at least one."""
        return (shape[0], *(math.ceil(side / _SHARE) for side in shape[1:]))

    def largest(self, shape: Shape) -> Array:
        """As much in every frequency, together half of black-to-white."""
        return evenly(self.pattern_shape(shape), half_of_range(shape))

    def changed(self, images: Tensor, patterns: Tensor) -> Tensor:
        """[x + D_h' v D_w]_c, [P, N, C, H, W]."""
        rows, columns = (patterns.new_tensor(_cosines(side)) for side in images.shape[3:])
        return (images + (rows.mT @ patterns @ columns).unsqueeze(1)).clamp(0.0, 1.0)

    def within(self, patterns: Tensor, points: Tensor) -> Tensor:
        """The patterns themselves: each acts on all pixels."""
        del points
        return patterns

    def replayed(self, images: Array, pattern: Array) -> Array:
        """[x + D_h' v D_w]_c, [N, C, H, W]."""
        rows, columns = (_cosines(side) for side in images.shape[2:])
        return add(images, (rows.T @ pattern @ columns).astype(np.float32))

    def shuffled(self, pattern: Array, rng: np.random.Generator) -> Array:
        """Its coefficients at other frequencies, with other signs: half-waves of one frequency look much like it."""
        signs = rng.choice(np.array([-1, 1], np.float32), pattern.shape)
        return np.asarray(signs * other_places(pattern, rng), np.float32)

    def card(self, shape: Shape) -> Array:
        """An even grey image."""
        return even_grey(shape)


@cache
def _cosines(side: int) -> Array:
    """The slowest waves of a side, orthonormal, [k, side]."""
    waves, places = np.arange(math.ceil(side / _SHARE))[:, None], np.arange(side) + 0.5
    basis = np.sqrt(np.where(waves == 0, 1.0, 2.0) / side) * np.cos(np.pi * waves * places / side)
    return np.asarray(basis, np.float32)
