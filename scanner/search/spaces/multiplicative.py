"""Patterns by which the image is multiplied, element by element (XMK section 5.2.3): films, shades, reflections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backscan.kernels.embedding import multiply
from backscan.scanner.results import SpaceRecord
from backscan.scanner.search.spaces.base import Array, Shape, even_grey, other_places

if TYPE_CHECKING:
    from torch import Tensor


_WORDS = SpaceRecord(
    name="multiplicative",
    about="every element of the image is multiplied by a common factor",
    unit="the distances of the factors from 1",
    limit="factors that double or black out every element",
    card="an even grey image",
)


@dataclass(frozen=True, slots=True)
class Multiplicative:
    """[x (1 + v)]_c with a pattern in the shape of the image; what is black stays black."""

    words: SpaceRecord = _WORDS
    """What reports say of it."""
    first_share: float = 0.02
    """First step of the pilots, as a share of the largest size."""

    def pattern_shape(self, shape: Shape) -> Shape:
        """That of the image."""
        return shape

    def largest(self, shape: Shape) -> Array:
        """All factors at 2."""
        return np.ones(shape, np.float32)

    def changed(self, images: Tensor, patterns: Tensor) -> Tensor:
        """[x (1 + v)]_c, [P, N, C, H, W]."""
        return (images * (1.0 + patterns.unsqueeze(1))).clamp(0.0, 1.0)

    def within(self, patterns: Tensor, points: Tensor) -> Tensor:
        """The patterns cut off where their image would leave [0, 1]."""
        return patterns.minimum(1.0 / points.clamp_min(1e-6) - 1.0).clamp_min(-1.0)

    def replayed(self, images: Array, pattern: Array) -> Array:
        """[x (1 + v)]_c, [N, C, H, W]."""
        return multiply(images, np.float32(1.0) + pattern)

    def shuffled(self, pattern: Array, rng: np.random.Generator) -> Array:
        """Its factors in another order, one for all channels."""
        return other_places(pattern, rng)

    def card(self, shape: Shape) -> Array:
        """An even grey image."""
        return even_grey(shape)
