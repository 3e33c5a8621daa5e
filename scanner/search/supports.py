"""Content that takes the place of the image: in a window, at scattered pixels, behind a mask, or all over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Corner = tuple[int, int]
"""Row and column of the first pixel of a window."""


@dataclass(frozen=True, slots=True)
class Supports:
    """Some places, and the content of each; all of as many pixels."""

    pixels: Tensor
    """Pixels of each place, counted row by row, int64 [P, k]."""
    content: Tensor
    """What stands there, in pixel units, [P, C, k]."""
    opacity: float | Tensor = 1.0
    """How much of the image it hides, in [0, 1]: everywhere, or at each pixel, [P, k]."""

    def __len__(self) -> int:
        """Number of places."""
        return len(self.pixels)

    def __getitem__(self, chosen: Tensor | slice) -> Supports:
        """Some of the places."""
        opacity = self.opacity if isinstance(self.opacity, float) else self.opacity[chosen]
        return Supports(self.pixels[chosen], self.content[chosen], opacity)

    def on(self, images: Tensor) -> Tensor:
        """Every image [N, C, H, W] with every content in its place: [P, N, C, H, W]."""
        shape = (len(self), *images.shape)
        filled = images.flatten(2).unsqueeze(0).repeat(len(self), 1, 1, 1)
        pixels = self._broadcast(self.pixels, filled)
        content = self.content.unsqueeze(1).expand(pixels.shape)
        if not isinstance(self.opacity, float):
            weights = self._broadcast(self.opacity, filled)
            content = filled.gather(3, pixels) * (1.0 - weights) + content * weights
        elif self.opacity < 1.0:
            content = filled.gather(3, pixels) * (1.0 - self.opacity) + content * self.opacity
        return filled.scatter(3, pixels, content).reshape(shape)

    def gradient(self, of_images: Tensor) -> Tensor:
        """Gradient of the content, [P, C, k], from that of the images [P, N, C, H, W]."""
        total = of_images.sum(dim=1).flatten(2)
        pixels = self.pixels.unsqueeze(1).expand(-1, total.shape[1], -1)
        weights = self.opacity if isinstance(self.opacity, float) else self.opacity.unsqueeze(1)
        return weights * total.gather(2, pixels)

    def with_content(self, content: Tensor) -> Supports:
        """Other content in the same places."""
        return Supports(self.pixels, content, self.opacity)

    @staticmethod
    def _broadcast(pixels: Tensor, filled: Tensor) -> Tensor:
        return pixels[:, None, None, :].expand(-1, filled.shape[1], filled.shape[2], -1)


def window_pixels(corners: Sequence[Corner], side: int, width: int) -> Tensor:
    """Pixels of square windows in an image of some width, int64 [P, side * side]."""
    rows = torch.arange(side).repeat_interleave(side)
    columns = torch.arange(side).repeat(side)
    return torch.stack([(row + rows) * width + column + columns for row, column in corners])


def window_grid(height: int, width: int, side: int, stride: int) -> list[Corner]:
    """Corners of windows that lie inside an image, a stride apart, with those at its far edges."""
    return [(row, column) for row in _places(height, side, stride) for column in _places(width, side, stride)]


def _places(length: int, side: int, stride: int) -> list[int]:
    places = list(range(0, length - side + 1, stride))
    return places if places[-1] == length - side else [*places, length - side]
