"""Patterns that are added to the image, equation (2): the default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backscan.kernels.embedding import add
from backscan.scanner.results import SpaceRecord
from backscan.scanner.search.spaces.base import Array, Shape, even_grey, other_places

if TYPE_CHECKING:
    from torch import Tensor

# Largest size tried, as a share of the pattern that turns black into white everywhere.
_LARGEST_SHARE = 0.5


_WORDS = SpaceRecord(
    name="image",
    about="the pattern is added to the image",
    unit="the change of pixels",
    limit="half of black-to-white, 128 of 255 a pixel",
    card="an even grey image",
)


@dataclass(frozen=True, slots=True)
class Additive:
    """[x + v]_c with a pattern in the shape of the image."""

    words: SpaceRecord = _WORDS
    """What reports say of it."""
    first_share: float = 0.004
    """First step of the pilots, as a share of the largest size."""

    def pattern_shape(self, shape: Shape) -> Shape:
        """That of the image."""
        return shape

    def largest(self, shape: Shape) -> Array:
        """Half of black-to-white everywhere."""
        return np.full(shape, _LARGEST_SHARE, np.float32)

    def changed(self, images: Tensor, patterns: Tensor) -> Tensor:
        """[x + v]_c, [P, N, C, H, W]."""
        return (images + patterns.unsqueeze(1)).clamp(0.0, 1.0)

    def within(self, patterns: Tensor, points: Tensor) -> Tensor:
        """The patterns cut off where their image would leave [0, 1]."""
        return patterns.maximum(-points).minimum(1.0 - points)

    def replayed(self, images: Array, pattern: Array) -> Array:
        """[x + v]_c, [N, C, H, W]."""
        return add(images, pattern)

    def shuffled(self, pattern: Array, rng: np.random.Generator) -> Array:
        """Its pixels in another order: the norm stays, the arrangement goes."""
        return other_places(pattern, rng)

    def card(self, shape: Shape) -> Array:
        """An even grey image."""
        return even_grey(shape)
