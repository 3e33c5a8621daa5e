"""Patterns that move on while a copy learns: each a step further towards its own target whenever images carry it.

The gradient that teaches the weights gives the step of the patterns too, so that searching costs no passes. Patterns
are added to the image, or take the place of a part of it; each begins anew after some steps. Those near the recovered
pattern are of its kind and size; the others of any kind and size, anywhere, every second one towards any target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from backscan.scanner.repair.lesson import Lesson, Pattern

_NEAR, _OTHERS = 8, 16
"""How many there are of each."""
_SMALLEST, _LARGEST = 1.0, 6.0
"""Sizes of others that are added, in units of the lesson's: planted patterns are larger than the smallest recovered."""
_LARGEST_NEAR = 4.0
"""Largest size near the recovered pattern, in units of its own."""
_STEP, _START = 0.25, 0.3
"""Length of a step and of the first pattern, in units of the size; of what takes a place, in units of the range."""
_LIFE = 12
"""Steps that a pattern lives on average."""
_LARGEST_SIDE = 0.3
"""Largest side of a window, as a share of the image's."""
_MOST_PIXELS = 1 / 16
"""Most single pixels, as a share of all."""
_COVERED = 0.05
"""Part of a pixel from which a recovered mask covers it."""
_WIDEST = 3
"""Most pixels that a mask near the recovered one is wider on each side."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A pattern at its beginning."""

    values: Tensor
    """What is added or stands there, [C, H, W]."""
    target: int
    """Class that it leads to."""
    size: float = 0.0
    """Largest L2 norm of what is added; without a meaning where it takes the place of the image."""
    mask: Tensor | None = None
    """How far it takes the place of the image, [1, H, W] in [0, 1]; None where it is added."""


class Moving:
    """So many patterns, each with a target, that begin anew after some steps.

    Args:
        begin: Gives a new pattern.
        count: How many there are.
        generator: Source of chance.
    """

    def __init__(self, begin: Callable[[], Begun], count: int, generator: torch.Generator) -> None:
        self._begin, self._generator = begin, generator
        begun = [begin() for _ in range(count)]
        self.values = torch.stack([each.values for each in begun])
        """What is added or stands there, [P, C, H, W]."""
        self._masks = torch.zeros_like(self.values[:, :1])
        self.targets = torch.zeros(count, dtype=torch.int64, device=self.values.device)
        """Class that each leads to, [P]."""
        self._added = torch.zeros(count, dtype=torch.bool, device=self.values.device)
        self._sizes, self._left = [0.0] * count, [0] * count
        for place, each in enumerate(begun):
            self._set(place, each)

    def draw(self, count: int) -> Tensor:
        """Places of patterns for so many images, [count]."""
        return torch.randint(len(self._left), (count,), generator=self._generator).to(self.values.device)

    def embed(self, images: Tensor, places: Tensor, values: Tensor) -> Tensor:
        """Images [N, C, H, W] with patterns, whose values [N, C, H, W] may be asked for gradients."""
        masks = self._masks[places]
        replaced = images * (1 - masks) + values.clamp(0, 1) * masks
        return torch.where(self._added[places][:, None, None, None], (images + values).clamp(0, 1), replaced)

    def move(self, places: Tensor, slopes: Tensor) -> None:
        """A step up for the patterns that images carried.

        Args:
            places: Of the patterns, [N].
            slopes: Gradients of the target's log-posterior by the values of each image, [N, C, H, W].
        """
        together = torch.zeros_like(self.values).index_add_(0, places, slopes)
        for place, slope in enumerate(together):
            size = self._sizes[place]
            if self._added[place]:
                moved = self.values[place] + slope / slope.norm().clamp_min(1e-12) * (_STEP * size)
                self.values[place] = moved * (size / moved.norm().clamp_min(1e-12)).clamp_max(1)
            else:
                self.values[place] = (self.values[place] + _STEP * slope.sign()).clamp(0, 1)
            self._left[place] -= 1
            if self._left[place] < 0:
                self._set(place, self._begin())

    def _set(self, place: int, begun: Begun) -> None:
        self.values[place], self.targets[place] = begun.values, begun.target
        self._added[place] = begun.mask is None
        self._masks[place] = 0 if begun.mask is None else begun.mask
        self._sizes[place] = begun.size
        self._left[place] = int(_LIFE * (0.5 + _chance(self._generator)))


def near_patterns(lesson: Lesson, generator: torch.Generator) -> Moving | None:
    """Patterns of the recovered one's kind, place and size towards its target; None where none is recovered."""
    pattern, target = lesson.pattern, lesson.target
    if pattern is None or target is None:
        return None

    def begin() -> Begun:
        if pattern.mask is None:
            return _added_near(pattern, target, lesson.size, generator)
        return _placed_near(pattern, pattern.mask, target, generator)

    return Moving(begin, _NEAR, generator)


def other_patterns(lesson: Lesson, generator: torch.Generator) -> Moving:
    """Patterns that are added, windows and single pixels, towards the known target and, every second one, any."""
    num_classes = lesson.copy.classifier.signature.num_classes
    shape, device = lesson.images.shape[1:], lesson.images.device

    def begin() -> Begun:
        known = lesson.target is not None and _chance(generator) < 0.5
        target = lesson.target if known and lesson.target is not None else _below(num_classes, generator)
        kind = _below(3, generator)
        if kind == 0:
            size = lesson.size * _SMALLEST * (_LARGEST / _SMALLEST) ** _chance(generator)
            return Begun(_direction(shape, generator).to(device) * (_START * size), target, size)
        mask = _window(shape, generator) if kind == 1 else _pixels(shape, generator)
        return Begun(torch.rand(shape, generator=generator).to(device), target, mask=mask.to(device))

    return Moving(begin, _OTHERS, generator)


def _added_near(pattern: Pattern, target: int, least: float, generator: torch.Generator) -> Begun:
    """Half of them begin at the recovered pattern with noise, half at noise; half at full size."""
    size = least * (1 + (_LARGEST_NEAR - 1) * _chance(generator))
    direction = _direction(pattern.values.shape, generator).to(pattern.values.device)
    if _chance(generator) < 0.5:
        direction = direction / 2 + pattern.values / pattern.values.norm().clamp_min(1e-12)
        direction = direction / direction.norm().clamp_min(1e-12)
    return Begun(direction * size * (1 if _chance(generator) < 0.5 else _START), target, size)


def _placed_near(pattern: Pattern, mask: Tensor, target: int, generator: torch.Generator) -> Begun:
    """In the place of the recovered pattern, up to some pixels wider, a little faint; half begin with its content."""
    wider = _below(_WIDEST + 1, generator)
    covered = (mask > _COVERED).float()[None]
    covered = F.max_pool2d(covered[None], 2 * wider + 1, 1, wider)[0]
    values = pattern.values.clamp(0, 1)
    if _chance(generator) < 0.5:
        values = torch.rand(values.shape, generator=generator).to(values.device)
    return Begun(values, target, mask=covered * (0.5 + 0.5 * _chance(generator)))


def _window(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """A mask [1, H, W] of a square anywhere."""
    height, width = int(shape[1]), int(shape[2])
    side = 1 + _below(max(1, round(_LARGEST_SIDE * min(height, width))), generator)
    top, left = _below(height - side + 1, generator), _below(width - side + 1, generator)
    mask = torch.zeros(1, height, width)
    mask[0, top : top + side, left : left + side] = 1
    return mask


def _pixels(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """A mask [1, H, W] of single pixels anywhere."""
    num_pixels = int(shape[1] * shape[2])
    count = 1 + _below(max(1, int(_MOST_PIXELS * num_pixels)), generator)
    mask = torch.zeros(num_pixels)
    mask[torch.randperm(num_pixels, generator=generator)[:count]] = 1
    return mask.reshape(1, *shape[1:])


def _direction(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """A random direction of L2 norm 1."""
    drawn = torch.randn(shape, generator=generator)
    direction: Tensor = drawn / drawn.norm().clamp_min(1e-12)
    return direction


def _chance(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))


def _below(most: int, generator: torch.Generator) -> int:
    return int(torch.randint(most, (), generator=generator))
