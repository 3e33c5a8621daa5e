"""What the search needs to know of the place of a pattern, and what of a way in which one changes images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.results import SpaceRecord

# Tensor methods only, here and in the spaces: what replays a pattern reads them where torch must not be imported.

Array = NDArray[np.float32]
"""Images or patterns outside torch."""
Shape = tuple[int, ...]
"""Of an image: channels, height and width."""


class Space(Protocol):
    """What the search needs to know about the place of the pattern. It knows no more, whatever the pattern does."""

    @property
    def name(self) -> str:
        """`image`, the space in the table, or the tensor the pattern is added to."""

    def encode(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [0, 1] as points of the space, [N, ...]."""

    def zero(self, points: Tensor) -> Tensor:
        """The pattern that changes nothing of points [N, ...], as a batch of one: [1, ...]."""

    def log_posterior(self, encoded: Tensor, pattern: Tensor) -> Tensor:
        """Log p(c|x) of encoded images [P, N, ...] with patterns [P, ...]: [P, N, K], differentiable in `pattern`."""

    def project(self, pattern: Tensor, encoded: Tensor) -> Tensor:
        """The allowed pattern nearest to `pattern` [P, ...]."""

    def within(self, pattern: Tensor, points: Tensor) -> Tensor:
        """What patterns [P, ...] really change of one point each, [P, ...]: no pixel leaves its range."""


class Change(Protocol):
    """A way in which a common pattern changes images: an entry of `SPACES`. The pattern of zeros changes nothing."""

    @property
    def words(self) -> SpaceRecord:
        """What results and reports say of it; its name there is that in the table, of additive patterns `image`."""

    @property
    def first_share(self) -> float:
        """First step of the pilots, as a share of the largest size."""

    def pattern_shape(self, shape: Shape) -> Shape:
        """Shape of patterns on images of a shape."""

    def largest(self, shape: Shape) -> Array:
        """A pattern as large as any that is tried, unless an option says otherwise."""

    def changed(self, images: Tensor, patterns: Tensor) -> Tensor:
        """Images [P, N, C, H, W] with patterns [P, ...] in [0, 1], differentiable in the patterns."""

    def within(self, patterns: Tensor, points: Tensor) -> Tensor:
        """Patterns [P, ...] without what the range of pixels takes from them on one image each, [P, C, H, W]."""

    def replayed(self, images: Array, pattern: Array) -> Array:
        """The twin of `changed` without torch: images [N, C, H, W] with one pattern."""

    def shuffled(self, pattern: Array, rng: np.random.Generator) -> Array:
        """The control of a replay: another pattern of the same L2 size."""

    def card(self, shape: Shape) -> Array:
        """An image [C, H, W] on which a pattern is shown."""


def picture(change: Change, pattern: Array, shape: Shape) -> Array:
    """What a pattern changes of the card, [C, H, W] in pixel units with its sign."""
    card = change.card(shape)
    shown: Array = change.replayed(card[None], pattern)[0] - card
    return shown


def even_grey(shape: Shape) -> Array:
    """The middle grey, [C, H, W]."""
    return np.full(shape, 0.5, np.float32)


def other_places(pattern: Array, rng: np.random.Generator) -> Array:
    """A pattern with its places in another order, one for all channels, the first axis; of a vector its values."""
    channels = len(pattern) if pattern.ndim > 1 else 1
    rows = pattern.reshape(channels, -1)
    return np.ascontiguousarray(rows[:, rng.permutation(rows.shape[1])].reshape(pattern.shape))


def evenly(shape: Shape, size: float) -> Array:
    """A pattern of equal values with an L2 size."""
    return np.full(shape, size / np.sqrt(np.prod(shape)), np.float32)


def half_of_range(shape: Shape) -> float:
    """L2 size, in pixel units, of the pattern that moves every pixel of an image by half of black-to-white."""
    return float(0.5 * np.sqrt(np.prod(shape)))
