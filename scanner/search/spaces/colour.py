"""Patterns that mix the channels of every pixel alike: colour filters, other white balance, tone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backscan.kernels.embedding import clip
from backscan.scanner.results import SpaceRecord
from backscan.scanner.search.spaces.base import Array, Shape

if TYPE_CHECKING:
    from torch import Tensor

# Brightness of the bands of the card in each channel: grey, then one channel after the other.
_LOW, _HIGH = 0.2, 0.8


_WORDS = SpaceRecord(
    name="colour",
    about="the colour of every pixel passes through a common matrix and a common offset is added",
    unit="the entries of the matrix, less 1 on its diagonal, and of the offset",
    limit="entries of 1 everywhere",
    card="a card of colours",
)


@dataclass(frozen=True, slots=True)
class Colour:
    """[x + A x + b]_c at every pixel; the pattern is (A, b), [C, C + 1]: 3 x 4 of colour images, 1 x 2 of grey ones."""

    words: SpaceRecord = _WORDS
    """What reports say of it."""
    first_share: float = 0.02
    """First step of the pilots, as a share of the largest size."""

    def pattern_shape(self, shape: Shape) -> Shape:
        """A row for each channel: its share of every channel, then what is added."""
        return (shape[0], shape[0] + 1)

    def largest(self, shape: Shape) -> Array:
        """Ones."""
        return np.ones(self.pattern_shape(shape), np.float32)

    def changed(self, images: Tensor, patterns: Tensor) -> Tensor:
        """[x + A x + b]_c, [P, N, C, H, W]."""
        mixed = patterns[:, None, :, :-1] @ images.flatten(3) + patterns[:, None, :, -1:]
        return (images + mixed.reshape(images.shape)).clamp(0.0, 1.0)

    def within(self, patterns: Tensor, points: Tensor) -> Tensor:
        """The patterns themselves: each acts on all pixels."""
        del points
        return patterns

    def replayed(self, images: Array, pattern: Array) -> Array:
        """[x + A x + b]_c, [N, C, H, W]."""
        mixed = np.einsum("dc,nchw->ndhw", pattern[:, :-1], images) + pattern[:, -1, None, None]
        return clip((images + mixed).astype(np.float32))

    def shuffled(self, pattern: Array, rng: np.random.Generator) -> Array:
        """Another matrix, drawn at random: so few entries have hardly another order."""
        drawn = rng.standard_normal(pattern.shape)
        return np.asarray(drawn * np.linalg.norm(pattern) / np.linalg.norm(drawn), np.float32)

    def card(self, shape: Shape) -> Array:
        """A band of greys from dark to bright, and one in each channel's colour."""
        channels, height, width = shape
        ramp = np.linspace(_LOW, _HIGH, width, dtype=np.float32)
        bands = np.arange(height) * (channels + 1) // max(1, height)
        in_band = (bands[None] == 0) | (bands[None] == 1 + np.arange(channels)[:, None])
        return np.where(in_band[:, :, None], ramp, np.float32(_LOW)).astype(np.float32)
