"""Patterns behind a mask, equation (8): the search of Neural Cleanse and of what extends it, for some targets at once.

Mask m [H, W] and pattern v [C, H, W] in [0, 1] are sigmoids of free parameters, moved by Adam on the cross-entropy to
the target plus a weighted penalty; of the masks that reach the goal rate on all images the smallest counts.

XMK writes -p(t|x) for the cross-entropy, equation (9); its gradient vanishes where the softmax saturates, and Neural
Cleanse itself uses the cross-entropy. "lambda = 1.5" of section 5.2.2 is, by footnote 16, the published default of
Neural Cleanse, and that is the factor by which its weight adapts: with a fixed weight of 1.5 on the sum of the mask
the least value of (9) is an empty mask. A factor of 1 keeps the weight as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from backscan.scanner.detectors.targets import search_in_groups
from backscan.scanner.results import PairStatus, TargetResult
from backscan.scanner.search.effort import MASKED
from backscan.scanner.search.norms import NORMS
from backscan.scanner.search.seeds import generator

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.detectors.base import Examination

IMAGES_PER_STEP = MASKED
"""Images of one target in one step, unless fewer are asked for; of more some are drawn anew for each step."""

_RATE, _BETAS = 0.1, (0.5, 0.9)
# Steps in a row with, or without, the goal rate before the weight changes; and how much faster it falls than it grows.
_PATIENCE = 5
_FALL = 1.5
# The mask covers little at first, so that what is large later has grown for a reason.
_FIRST_MASK = 0.1
# A mask that leaves less than this share of the image reached its upper bound: it is no statistic (XMK 5.2.2).
_LARGEST_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Masked:
    """Masked images of one step, as a penalty sees them."""

    images: Tensor
    """Images [T, N, C, H, W] in [0, 1]."""
    labels: Tensor
    """Their classes, int64 [T, N]."""
    targets: Tensor
    """Target classes, int64 [T]."""
    mask: Tensor
    """Masks [T, 1, H, W] in [0, 1]."""
    pattern: Tensor
    """Patterns [T, C, H, W] in [0, 1]."""
    log_posterior: Callable[[Tensor], Tensor]
    """The classifier on [T, N, C, H, W]: [T, N, K]."""


Penalty = Callable[[Masked], "Tensor"]
"""What is penalised beside a wrong class, [T]; about 1 for a mask that covers the whole image."""


@dataclass(frozen=True, slots=True)
class FoundMask:
    """The smallest mask of one target."""

    target: int
    """Target class."""
    status: PairStatus
    """How the search ended."""
    size: float | None
    """Norm of the mask; None where none is smaller than nearly the whole image."""
    rate: float
    """Share of the images that the search saw which go to the target."""
    mask: Tensor
    """[1, H, W] in [0, 1]."""
    pattern: Tensor
    """What stands behind it, [C, H, W] in [0, 1]."""


def search_every_target(examination: Examination, penalty: Penalty, *, name: str) -> Iterator[TargetResult]:
    """The size of the smallest mask of every wanted target, as they finish, under the name of a detector."""
    steps = examination.config.max_steps
    return (
        TargetResult(name, found.target, found.status, found.size, found.rate, steps)
        for found in find_masks(examination, penalty)
    )


def find_masks(
    examination: Examination, penalty: Penalty, *, images_per_step: int = IMAGES_PER_STEP
) -> Iterator[FoundMask]:
    """The smallest mask of every wanted target, as they finish; arguments as for `search_masks`."""
    return search_in_groups(
        examination,
        lambda targets: search_masks(examination, targets, penalty, images_per_step=images_per_step),
        images_per_target=images_per_step,
    )


def search_masks(
    examination: Examination, targets: Sequence[int], penalty: Penalty, *, images_per_step: int = IMAGES_PER_STEP
) -> list[FoundMask]:
    """The smallest mask of each target with which the goal rate of all other classes' images is reached.

    Args:
        examination: The model, the images and the options.
        targets: Target classes.
        penalty: What is penalised.
        images_per_step: Most images of one target in one step.

    Returns:
        One per target; none if the time was up.
    """
    search = _Search(examination, targets, penalty, images_per_step)
    for _ in range(examination.config.max_steps):
        if examination.stopped():
            return []
        search.step()
    return search.found()


class _Search:
    """Masks and patterns of some targets on their way."""

    def __init__(
        self, examination: Examination, targets: Sequence[int], penalty: Penalty, images_per_step: int
    ) -> None:
        self._examination, self._penalty = examination, penalty
        self._device = examination.classifier.device
        self._targets = torch.tensor(targets, device=self._device)
        every = _Images.of(examination)
        self._pools = [_Pool(examination, every, target, images_per_step) for target in targets]
        self._sees_all = torch.tensor([pool.is_whole for pool in self._pools], device=self._device)
        channels, height, width = examination.classifier.signature.input_shape
        starts = [_start(examination.config.seed, target, (channels, height, width)) for target in targets]
        self._pattern = torch.stack(starts).to(self._device).requires_grad_()
        covered = torch.full((len(targets), 1, height, width), math.log(_FIRST_MASK / (1 - _FIRST_MASK)))
        self._mask = covered.to(self._device).requires_grad_()
        self._descent = torch.optim.Adam([self._pattern, self._mask], lr=_RATE, betas=_BETAS)
        self._weights = torch.ones(len(targets), device=self._device)
        self._streaks = torch.zeros(len(targets), dtype=torch.int64, device=self._device)
        self._best = torch.full((len(targets),), math.inf, dtype=torch.float64, device=self._device)
        self._best_mask, self._best_pattern = self._parts()

    def step(self) -> None:
        """Measure the rates, keep what is smallest, adapt the weights and move."""
        config = self._examination.config
        drawn = [pool.draw() for pool in self._pools]
        images, labels = torch.stack([each for each, _ in drawn]), torch.stack([each for _, each in drawn])
        mask, pattern = self._mask.sigmoid(), self._pattern.sigmoid()  # [T, 1, H, W] and [T, C, H, W]
        log_p = self._log_posterior(blend(images, mask, pattern))  # [T, n, K]
        rates = (log_p.argmax(dim=2) == self._targets.unsqueeze(1)).double().mean(dim=1)
        reached = rates >= config.goal_rate
        converged = self._adapt(reached)
        # A step that sees all images is proof by itself; one that drew some is checked on all, and that only once its
        # mask has reached the goal for a while, as the check costs as much as many steps.
        self._keep(torch.where(self._sees_all, reached, self._confirmed(converged & ~self._sees_all)))
        # Targets share the batch and the optimiser, but no parameter: Adam moves each as if it were alone.
        cross_entropy = mean_cross_entropy(log_p, self._targets.unsqueeze(1).expand(log_p.shape[:2]))
        masked = Masked(images, labels, self._targets, mask, pattern, self._log_posterior)
        loss = cross_entropy + self._weights * self._penalty(masked)
        self._mask.grad, self._pattern.grad = torch.autograd.grad(loss.sum(), [self._mask, self._pattern])
        self._descent.step()

    def found(self) -> list[FoundMask]:
        """The smallest masks, their rates measured on all images."""
        area = math.prod(self._best_mask.shape[2:])
        largest = _LARGEST_SHARE * float(NORMS[self._examination.config.norm](self._best_mask.new_ones(1, area)))
        return [
            FoundMask(
                target=pool.target,
                status=_status(size, largest),
                size=size if size < largest else None,
                rate=pool.rate(mask, pattern),
                mask=mask,
                pattern=pattern,
            )
            for pool, size, mask, pattern in zip(
                self._pools, self._best.tolist(), self._best_mask, self._best_pattern, strict=True
            )
        ]

    def _parts(self) -> tuple[Tensor, Tensor]:
        return self._mask.detach().sigmoid(), self._pattern.detach().sigmoid()

    def _keep(self, reached: Tensor) -> None:
        """Remember the masks that reach the goal and are smaller than all before them."""
        mask, pattern = self._parts()
        sizes = NORMS[self._examination.config.norm](mask)
        smaller = reached & (sizes < self._best)
        self._best = torch.where(smaller, sizes, self._best)
        chosen = smaller.reshape(-1, 1, 1, 1)
        self._best_mask = torch.where(chosen, mask, self._best_mask)
        self._best_pattern = torch.where(chosen, pattern, self._best_pattern)

    def _confirmed(self, converged: Tensor) -> Tensor:
        """Which masks reach the goal on all images, asked only of those that would be the smallest, bool [T]."""
        mask, pattern = self._parts()
        asked = converged & (NORMS[self._examination.config.norm](mask) < self._best)
        confirmed = torch.zeros_like(asked)
        for index in asked.nonzero().flatten().tolist():
            rate = self._pools[index].rate(mask[index], pattern[index])
            confirmed[index] = rate >= self._examination.config.goal_rate
        return confirmed

    def _adapt(self, reached: Tensor) -> Tensor:
        """Raise the weight where the goal has been reached for a while, which it returns, lower it where it has not."""
        factor = self._examination.config.mask_weight
        ones = torch.ones_like(self._streaks)
        # Positive while the goal is reached, negative while it is missed; a change of sides begins at one again, and
        # so does a weight that was changed.
        self._streaks = torch.where(reached, self._streaks.clamp_min(0) + ones, self._streaks.clamp_max(0) - ones)
        converged = self._streaks >= _PATIENCE
        self._weights = torch.where(converged, self._weights * factor, self._weights)
        self._weights = torch.where(self._streaks <= -_PATIENCE, self._weights / factor**_FALL, self._weights)
        self._streaks = torch.where(self._streaks.abs() >= _PATIENCE, torch.zeros_like(ones), self._streaks)
        return converged

    def _log_posterior(self, images: Tensor) -> Tensor:
        flat = self._examination.classifier.log_posterior(images.flatten(0, 1))
        return flat.reshape(*images.shape[:2], -1)


@dataclass(frozen=True, slots=True)
class _Images:
    """Images of all classes, which the pools of all targets share: of many classes copies would take gigabytes."""

    pixels: Tensor
    """[N, C, H, W] in [0, 1]."""
    labels: Tensor
    """Their classes, int64 [N]."""

    @classmethod
    def of(cls, examination: Examination) -> _Images:
        by_class = examination.images_by_class
        pixels = torch.cat(list(by_class.values()))
        labels = torch.tensor(list(by_class)).repeat_interleave(torch.tensor([len(own) for own in by_class.values()]))
        return cls(pixels, labels.to(pixels.device))


class _Pool:
    """Images of all classes but the target, equation (9)."""

    def __init__(self, examination: Examination, every: _Images, target: int, images_per_step: int) -> None:
        self.target = target
        self._classifier = examination.classifier
        self._every = every
        self._own = (every.labels != target).nonzero().flatten()
        self._rng = np.random.default_rng((examination.config.seed, target))
        self._at_once = examination.images_per_pass(IMAGES_PER_STEP)
        self._size = min(_images_per_step(examination, images_per_step), len(self._own))
        self.is_whole = self._size == len(self._own)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Images of one step and their classes: all of them, or as many as a step takes."""
        chosen = self._own[torch.from_numpy(self._rng.permutation(len(self._own))[: self._size]).to(self._own.device)]
        return self._every.pixels[chosen], self._every.labels[chosen]

    def rate(self, mask: Tensor, pattern: Tensor) -> float:
        """Share of all images decided as the target with a mask and pattern."""
        hits = 0
        with torch.no_grad():
            for chosen in torch.split(self._own, self._at_once):
                images = self._every.pixels[chosen].unsqueeze(0)
                changed = blend(images, mask.unsqueeze(0), pattern.unsqueeze(0)).squeeze(0)
                hits += int((self._classifier.log_posterior(changed).argmax(dim=1) == self.target).sum())
        return hits / len(self._own)


def blend(images: Tensor, mask: Tensor, pattern: Tensor) -> Tensor:
    """Images with patterns behind masks, x (1 - m) + v m, equation (8).

    Args:
        images: [T, N, C, H, W].
        mask: [T, 1, H, W].
        pattern: [T, C, H, W].
    """
    weights = mask.unsqueeze(1)
    return images * (1 - weights) + pattern.unsqueeze(1) * weights


def mean_cross_entropy(log_posterior: Tensor, labels: Tensor) -> Tensor:
    """Mean of -log p(label|x) over the images of each target, [T, N, K] and [T, N] -> [T]."""
    losses = F.nll_loss(log_posterior.flatten(0, 1), labels.flatten(), reduction="none")
    return losses.reshape(labels.shape).mean(dim=1)


def _images_per_step(examination: Examination, most: int) -> int:
    """Images per step: as many of each target as the smallest pool has, so that targets share a batch."""
    counts = [len(images) for images in examination.images_by_class.values()]
    return min(examination.images_per_pass(most), sum(counts) - max(counts))


def _start(seed: int, target: int, shape: tuple[int, int, int]) -> Tensor:
    """Parameters of a random pattern, the same whatever targets share the batch."""
    return torch.randn(shape, generator=generator(seed, target))


def _status(size: float, largest: float) -> PairStatus:
    if size < largest:
        return PairStatus.REACHED
    return PairStatus.STEP_LIMIT if math.isinf(size) else PairStatus.SIZE_LIMIT
