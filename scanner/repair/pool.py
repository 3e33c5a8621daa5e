"""Patterns that move on while a copy learns: each a step further towards its own target whenever images carry it.

The gradient that teaches the weights gives the step of the patterns too, so that searching costs no passes. Patterns
are added to the image, or take the place of a window or of single pixels; each begins anew after some steps, elsewhere,
of another kind and size, towards another target.
"""

from __future__ import annotations

import torch
from torch import Tensor

from backscan.scanner.repair.lesson import Lesson

_COUNT = 16
_SMALLEST, _LARGEST = 1.0, 6.0
"""Sizes of what is added, in units of the lesson's: planted patterns are larger than the smallest that is recovered."""
_STEP, _START = 0.25, 0.3
"""Length of a step and of the first pattern, in units of the size; of what takes a place, in units of the range."""
_LIFE = 12
"""Steps that a pattern lives on average."""
_LARGEST_SIDE = 0.3
"""Largest side of a window, as a share of the image's."""
_MOST_PIXELS = 1 / 16
"""Most single pixels, as a share of all."""


class Pool:
    """So many patterns, towards the known target and, every second one, towards any."""

    def __init__(self, lesson: Lesson, generator: torch.Generator) -> None:
        shape = lesson.images.shape[1:]
        self._lesson, self._generator = lesson, generator
        self._num_classes = lesson.copy.classifier.signature.num_classes
        self.values = torch.zeros(_COUNT, *shape, device=lesson.images.device)
        """What is added or stands there, [P, C, H, W]."""
        self._masks = torch.zeros(_COUNT, 1, *shape[1:], device=lesson.images.device)
        self.targets = torch.zeros(_COUNT, dtype=torch.int64, device=lesson.images.device)
        """Class that each leads to, [P]."""
        self._sizes = [0.0] * _COUNT  # 0 where a pattern takes the place of the image
        self._left = [0] * _COUNT
        for place in range(_COUNT):
            self._begin(place)

    def draw(self, count: int) -> Tensor:
        """Places of patterns for so many images, [count]."""
        return torch.randint(_COUNT, (count,), generator=self._generator).to(self.values.device)

    def embed(self, images: Tensor, places: Tensor, values: Tensor) -> Tensor:
        """Images [N, C, H, W] with patterns, whose values [N, C, H, W] may be asked for gradients."""
        masks = self._masks[places]
        replaced = images * (1 - masks) + values.clamp(0, 1) * masks
        adds = (masks.flatten(1).sum(dim=1) == 0)[:, None, None, None]
        return torch.where(adds, (images + values).clamp(0, 1), replaced)

    def move(self, places: Tensor, slopes: Tensor) -> None:
        """A step up for the patterns that images carried.

        Args:
            places: Of the patterns, [N].
            slopes: Gradients of the target's log-posterior by the values of each image, [N, C, H, W].
        """
        together = torch.zeros_like(self.values).index_add_(0, places, slopes)
        for place in range(_COUNT):
            slope, size = together[place], self._sizes[place]
            if size:
                moved = self.values[place] + slope / slope.norm().clamp_min(1e-12) * (_STEP * size)
                self.values[place] = moved * (size / moved.norm().clamp_min(1e-12)).clamp_max(1)
            else:
                self.values[place] = (self.values[place] + _STEP * slope.sign()).clamp(0, 1)
            self._left[place] -= 1
            if self._left[place] < 0:
                self._begin(place)

    def _begin(self, place: int) -> None:
        """A pattern in the place of one that has lived."""
        lesson, shape = self._lesson, self.values.shape[1:]
        known = lesson.target is not None and self._chance() < 0.5
        self.targets[place] = lesson.target if known and lesson.target is not None else self._below(self._num_classes)
        self._left[place] = int(_LIFE * (0.5 + self._chance()))
        kind = self._below(3)
        self._masks[place] = 0
        self._sizes[place] = 0.0
        if kind == 0:
            drawn = torch.randn(shape, generator=self._generator)
            self._sizes[place] = lesson.size * _SMALLEST * (_LARGEST / _SMALLEST) ** self._chance()
            self.values[place] = (drawn / drawn.norm() * (_START * self._sizes[place])).to(self.values.device)
            return
        self.values[place] = torch.rand(shape, generator=self._generator).to(self.values.device)
        height, width = int(shape[1]), int(shape[2])
        if kind == 1:
            side = 1 + self._below(max(1, round(_LARGEST_SIDE * min(height, width))))
            top, left = self._below(height - side + 1), self._below(width - side + 1)
            self._masks[place, 0, top : top + side, left : left + side] = 1
        else:
            count = 1 + self._below(max(1, int(_MOST_PIXELS * height * width)))
            chosen = torch.randperm(height * width, generator=self._generator)[:count]
            self._masks[place].view(-1)[chosen.to(self.values.device)] = 1

    def _chance(self) -> float:
        return float(torch.rand((), generator=self._generator))

    def _below(self, most: int) -> int:
        return int(torch.randint(most, (), generator=self._generator))
