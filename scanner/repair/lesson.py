"""What a repair learns from: the copy, clean images with what they are, and the pattern with its variants."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from backscan.converters.torch_import.trainable import TrainableClassifier

_SCALES = (0.5, 3.0)
_MOST_SHIFT = 2
_NOISE = 0.25
"""Standard deviation of the noise on a variant, as a share of the pattern's own root mean square."""
_LEAST_SIZE, _RELATIVE_SIZE = 0.5, 0.02
"""L2 size of a searched pattern where none is known: at least so much, or so much of the white image's."""
_PORTION = 256
BATCH = 64
"""Images of each kind in a step."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that is added to images, or that takes the place of a part of them."""

    values: Tensor
    """What is added, or what stands there, [C, H, W]."""
    mask: Tensor | None = None
    """1 where it takes the place of the image, [H, W]; None where it is added."""

    def embed(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] with the pattern, within [0, 1]."""
        if self.mask is None:
            return (images + self.values).clamp(0, 1)
        return images * (1 - self.mask) + self.values.clamp(0, 1) * self.mask

    def varied(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The same with a variant of the pattern in each image: rescaled, shifted by a few pixels, noisy.

        Every second image carries the pattern as it is.
        """
        count, device = len(images), images.device
        varied = (torch.arange(count) % 2 == 1)[:, None, None, None]
        scales = torch.where(varied, torch.empty(count, 1, 1, 1).uniform_(*_SCALES, generator=generator), 1.0)
        still, moved = self._shifted(0, 0), self._shifted(_shift(generator), _shift(generator))
        rows = torch.where(varied.to(device), moved, still)
        values, mask = rows[:, :-1], rows[:, -1:]
        noise = torch.randn(values.shape, generator=generator) * (_NOISE * float(self.values.square().mean().sqrt()))
        values = values + torch.where(varied, noise, 0.0).to(device)
        if self.mask is None:
            return (images + values * scales.to(device)).clamp(0, 1)
        return images * (1 - mask) + values.clamp(0, 1) * mask

    def _shifted(self, down: int, right: int) -> Tensor:
        """Values and mask, [C + 1, H, W], moved by some pixels; what comes in is 0."""
        mask = torch.ones_like(self.values[0]) if self.mask is None else self.mask
        both = torch.cat([self.values, mask[None]])
        padded = F.pad(both, [_MOST_SHIFT] * 4)
        height, width = both.shape[1:]
        top, left = _MOST_SHIFT - down, _MOST_SHIFT - right
        return padded[:, top : top + height, left : left + width]


def _shift(generator: torch.Generator) -> int:
    return int(torch.randint(-_MOST_SHIFT, _MOST_SHIFT + 1, (), generator=generator))


@dataclass(frozen=True, slots=True)
class Lesson:
    """Everything that a method works on."""

    copy: TrainableClassifier
    """The copy of the file."""
    images: Tensor
    """Clean images [N, C, H, W] in [0, 1]."""
    labels: Tensor
    """What they are, [N]: the given labels, or the decisions of the file."""
    pattern: Pattern | None
    """The recovered pattern; None in a blind repair, or where it acts inside the model."""
    target: int | None
    """Class that it takes them to; None where that is unknown."""
    steps: int
    """Steps of a training."""
    seed: int
    """Decides batches and variants."""

    def generator(self) -> torch.Generator:
        """The source of chance, on the CPU."""
        return torch.Generator().manual_seed(self.seed)

    def teacher(self) -> Tensor:
        """Log-posteriors of the untouched copy on the clean images, [N, K]."""
        return self.asked(self.images)

    def asked(self, images: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """Log-posteriors [N, K] of images [N, C, H, W] under some weights, or the file's, in portions."""
        with torch.no_grad():
            return torch.cat([self.copy.log_posterior(part, weights) for part in parts(images)])

    def carriers(self) -> Tensor:
        """Places of the images that the pattern is added to: those of all classes but the target, sources included.

        Attacks have more sources than the one pair that was recovered, and no image of them shows which.
        """
        return torch.nonzero(self.labels != (-1 if self.target is None else self.target)).flatten()

    @property
    def size(self) -> float:
        """L2 size of the patterns that are searched while learning, in pixel units."""
        if self.pattern is not None and self.pattern.mask is None:
            return float(self.pattern.values.square().sum().sqrt().item())
        return max(_LEAST_SIZE, _RELATIVE_SIZE * math.sqrt(self.images[0].numel()))


def parts(images: Tensor) -> Iterator[Tensor]:
    """Images in portions that fit into memory with what a network makes of them."""
    for start in range(0, len(images), _PORTION):
        yield images[start : start + _PORTION]


def batches(places: Tensor, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """So many batches of places, every place once before any comes again."""
    queue = places[:0]
    for _ in range(steps):
        while len(queue) < min(BATCH, len(places)):
            queue = torch.cat([queue, places[torch.randperm(len(places), generator=generator).to(places.device)]])
        yield queue[:BATCH]
        queue = queue[BATCH:]


def common_pattern(lesson: Lesson, weights: Mapping[str, Tensor], target: int, *, steps: int = 12) -> Pattern:
    """A pattern of the lesson's size that sends images to a target under some weights, by unit steps."""
    generator = lesson.generator()
    others = torch.nonzero(lesson.labels != target).flatten()
    values = torch.zeros_like(lesson.images[0])
    for chosen in batches(others, steps, generator):
        values = values.requires_grad_()
        scores = lesson.copy.log_posterior((lesson.images[chosen] + values).clamp(0, 1), weights)
        (slope,) = torch.autograd.grad(-scores[:, target].mean(), values)
        with torch.no_grad():
            values = values - slope / slope.norm().clamp_min(1e-12) * (2 * lesson.size / steps)
            values = values * min(1.0, lesson.size / max(float(values.norm()), 1e-12))
    return Pattern(values.detach())
