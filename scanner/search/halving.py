"""Contents and places that send most images to a target, by successive halving: many places get little, few get more.

Content is moved by steps of the sign of the gradient, within the range of clean images. What is climbed is the mean
over the images of tanh(margin / scale), the margin being that of the target over the best other class and the scale
its median on clean images: a smooth count of the images that go to the target, to which one image of a single source
adds as much as any other, and which no image that is far beyond the boundary can buy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from backscan.scanner.search.effort import (
    KEPT,
    LAST,
    LAST_KEPT,
    LOOK,
    NARROW,
    NEAR,
    NEAR_KEPT,
    SMALL_SIDE,
    STEEPEST,
    Stage,
    stride_of,
    strides_near,
)
from backscan.scanner.search.supports import Corner, Supports, window_grid, window_pixels

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.converters import TorchClassifier
    from backscan.scanner.search.settings import Work

# Images of one pass: the cache of a CPU core holds their activations, a GPU is kept busy.
_IMAGES_PER_PASS = {"cpu": 64, "cuda": 4096}
STEPS = LOOK.steps + NARROW.steps + NEAR.steps + LAST.steps
"""Gradient steps of the content that is found, if its place has one round of neighbours."""


@dataclass(frozen=True, slots=True)
class Climb:
    """What content is moved for: one target on one model."""

    classifier: TorchClassifier
    """Differentiable copy of the model."""
    images: Tensor
    """Images of the other classes [N, C, H, W], class after class in turn, so that the first few are of many."""
    target: int
    """Target class."""
    low: Tensor
    """Least value of each channel, [C, 1]."""
    high: Tensor
    """Largest value of each channel, [C, 1]."""
    scale: float
    """Median size of the margin on clean images."""
    work: Work
    """Count of what it costs."""
    stopped: Callable[[], bool]
    """True once the time is up."""
    images_at_once: int | None = None
    """Most images that pass together; None is as many as the device is quick with."""

    @classmethod
    def towards(
        cls,
        target: int,
        classifier: TorchClassifier,
        images: Tensor,
        bounds: tuple[Tensor, Tensor],
        work: Work,
        stopped: Callable[[], bool],
        *,
        images_at_once: int | None = None,
    ) -> Climb:
        """The climb towards a target, with the scale of its margin."""
        seen = images[: LAST.images]
        with torch.no_grad():
            margins = margin(classifier.log_posterior(seen), target)
        work.forwards += len(seen)
        scale = float(margins.abs().median().clamp_min(1e-6).nan_to_num(1.0))
        return cls(classifier, images, target, *bounds, scale, work, stopped, images_at_once)

    def grey(self, pixels: Tensor) -> Supports:
        """Places filled with the middle of the range."""
        middle = ((self.low + self.high) / 2).unsqueeze(0)
        return Supports(pixels, middle.expand(len(pixels), -1, pixels.shape[1]).contiguous())

    def ascend(self, supports: Supports, stage: Stage) -> tuple[Supports, Tensor]:
        """The best content seen in each place, and its score [P]; content that few images looked at is not compared."""
        best, found = supports.content.clone(), torch.full((len(supports),), -torch.inf, device=self.images.device)
        for length in np.geomspace(stage.first, stage.last, stage.steps).tolist():
            scores, gradient = self._slopes(supports, stage.climbing or stage.images)
            if stage.climbing is None:
                _keep(best, found, supports.content, scores)
            moved = supports.content + length * (self.high - self.low) * gradient.sign()
            supports = supports.with_content(torch.minimum(torch.maximum(moved, self.low), self.high))
        _keep(best, found, supports.content, self.scores(supports, stage.images))
        return supports.with_content(best), found

    def scores(self, supports: Supports, num_images: int) -> Tensor:
        """Score of every place, [P]."""
        with torch.no_grad():
            return torch.cat(
                [self._score(part.on(self.images[:num_images])) for part in self._parts(supports, num_images)]
            )

    def steepness(self, num_images: int) -> Tensor:
        """How fast the score changes with each pixel of clean images, as a share of the range, [H, W]."""
        images = self.images[:num_images].unsqueeze(0).clone().requires_grad_()
        self.work.gradients += images.shape[1]
        (gradient,) = torch.autograd.grad(self._score(images).sum(), images)
        return (gradient.sum(dim=(0, 1)).abs() * (self.high - self.low).unsqueeze(2)).sum(dim=0).nan_to_num(0.0)

    def _slopes(self, supports: Supports, num_images: int) -> tuple[Tensor, Tensor]:
        """Score [P] and its gradient by the content [P, C, k]."""
        scores, gradients = [], []
        for part in self._parts(supports, num_images):
            images = part.on(self.images[:num_images]).requires_grad_()
            score = self._score(images)
            (gradient,) = torch.autograd.grad(score.sum(), images)
            scores.append(score.detach())
            gradients.append(part.gradient(gradient).nan_to_num(0.0))
            self.work.gradients += images.shape[0] * images.shape[1]
        return torch.cat(scores), torch.cat(gradients)

    def _parts(self, supports: Supports, num_images: int) -> list[Supports]:
        """The places in portions of one pass each; none are left once the time is up."""
        most = min(_IMAGES_PER_PASS[self.images.device.type], self.images_at_once or 1 << 20)
        at_once = max(1, most // min(num_images, len(self.images)))
        return [supports[start : start + at_once] for start in range(0, len(supports), at_once)]

    def _score(self, images: Tensor) -> Tensor:
        """Mean over the images [P, N, C, H, W] of the squashed margin, [P]."""
        if not torch.is_grad_enabled():
            self.work.forwards += images.shape[0] * images.shape[1]
        log_posterior = self.classifier.log_posterior(images.flatten(0, 1)).reshape(*images.shape[:2], -1)
        return torch.tanh(margin(log_posterior, self.target) / self.scale).mean(dim=1)


def margin(log_posterior: Tensor, target: int) -> Tensor:
    """By how much the target leads over the best other class, [..., K] -> [...]."""
    others = torch.cat([log_posterior[..., :target], log_posterior[..., target + 1 :]], dim=-1)
    return log_posterior[..., target] - others.amax(dim=-1)


def find_window(climb: Climb, side: int) -> Supports | None:
    """The window of some side, and its content, that sends most images to the target; None if the time was up."""
    height, width = climb.images.shape[2:]
    stride = stride_of(height, width)
    corners = window_grid(height, width, side, stride)
    if side <= SMALL_SIDE:
        corners = list(dict.fromkeys((*corners, *_steepest(climb, side))))
    supports = climb.grey(window_pixels(corners, side, width).to(climb.images.device))
    for stage, kept in ((LOOK, KEPT), (NARROW, NEAR_KEPT)):
        if climb.stopped():
            return None
        supports, corners = _best(*climb.ascend(supports, stage), corners, kept)
    for step in strides_near(stride, side):
        if climb.stopped():
            return None
        supports, corners = _neighbours(supports, corners, step, side, (height, width))
        supports, corners = _best(*climb.ascend(supports, NEAR), corners, NEAR_KEPT)
    supports, scores = climb.ascend(supports[:LAST_KEPT], LAST)
    return supports[scores.argmax().unsqueeze(0)]


def _steepest(climb: Climb, side: int) -> list[Corner]:
    """Corners of the small windows in which clean images change the score fastest."""
    sums = torch.nn.functional.avg_pool2d(climb.steepness(LOOK.images)[None, None], side, stride=1)[0, 0]
    places = sums.flatten().argsort(descending=True, stable=True)[:STEEPEST].tolist()
    return [divmod(place, sums.shape[1]) for place in places]


def _best(supports: Supports, scores: Tensor, corners: Sequence[Corner], kept: int) -> tuple[Supports, list[Corner]]:
    """The places with the largest scores, the largest first."""
    order = scores.argsort(descending=True, stable=True)[:kept].to(supports.pixels.device)
    return supports[order], [corners[index] for index in order.tolist()]


def _neighbours(
    supports: Supports, corners: Sequence[Corner], step: int, side: int, shape: tuple[int, int]
) -> tuple[Supports, list[Corner]]:
    """Each place and the eight around it, with its content; a place of several keeps the content of the best."""
    origins: dict[Corner, int] = {}
    for index, (row, column) in enumerate(corners):
        for down in (0, -step, step):
            for right in (0, -step, step):
                near = (_within(row + down, shape[0] - side), _within(column + right, shape[1] - side))
                origins.setdefault(near, index)
    pixels = window_pixels(list(origins), side, shape[1]).to(supports.pixels.device)
    return Supports(pixels, supports.content[list(origins.values())], supports.opacity), list(origins)


def _within(place: int, most: int) -> int:
    return min(max(place, 0), most)


def _keep(best: Tensor, found: Tensor, content: Tensor, scores: Tensor) -> None:
    """Remember, in place, the content of the places whose score is larger than all before."""
    larger = scores > found
    best[larger], found[larger] = content[larger], scores[larger]
