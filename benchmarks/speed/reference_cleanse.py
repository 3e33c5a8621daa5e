"""Neural Cleanse as a denominator: a mask and a pattern for each target that send all other classes there.

Wang et al. 2019 as XMK section 5.2.2 runs it: equation (8) on all images of the other classes, goal rate 0.8, the
weight of the mask multiplied or divided by powers of 1.5 so that the rate stays near the goal. Adam with step 0.1 and
moments 0.5 and 0.9, patience 5, an end when the mask of the goal rate has not shrunk for 25 iterations. An iteration is
one pass over all images, forward and backward; targets that are still running at the cap make the time a lower bound.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.speed.reference import GOAL_RATE, Cost, Network, mean_cross_entropy

_STEP_SIZE, _MOMENTS = 0.1, (0.5, 0.9)
_FIRST_WEIGHT, _FACTOR, _PATIENCE = 1e-3, 1.5, 5
_SHRINKS = 0.99
_LONGEST_WAIT = 25


@dataclass(frozen=True, slots=True)
class Cleansed:
    """What Neural Cleanse found for one target."""

    target: int
    """Target class."""
    mask_size: float
    """L1 norm of the smallest mask of the goal rate; infinity if none reached it."""
    iterations: int
    """Adam steps taken."""
    capped: bool
    """Whether it was still shrinking at the largest number of iterations."""
    cost: Cost
    """What it took."""


class _Weight:
    """Weight of the mask's norm: raised after some iterations at the goal rate, lowered after some below it."""

    def __init__(self) -> None:
        self.value, self._above, self._below = _FIRST_WEIGHT, 0, 0

    def follow(self, *, reached: bool) -> None:
        self._above, self._below = (self._above + 1, 0) if reached else (0, self._below + 1)
        if self._above == _PATIENCE:
            self.value, self._above = self.value * _FACTOR, 0
        if self._below == _PATIENCE:
            self.value, self._below = self.value / _FACTOR**1.5, 0


def cleanse(
    network: Network, images_by_class: Mapping[int, Tensor], target: int, *, max_iterations: int, seed: int
) -> Cleansed:
    """Mask and pattern of one target.

    Args:
        network: Images [N, C, H, W] to logits [N, K].
        images_by_class: Class -> images in [0, 1].
        target: Target class.
        max_iterations: Cap on the Adam steps.
        seed: Of the start.
    """
    images = torch.cat([array for label, array in images_by_class.items() if label != target])
    generator = torch.Generator().manual_seed(seed)
    free_mask = torch.randn(1, *images.shape[2:], generator=generator).requires_grad_()
    free_pattern = torch.randn(images.shape[1:], generator=generator).requires_grad_()
    adam = torch.optim.Adam([free_mask, free_pattern], lr=_STEP_SIZE, betas=_MOMENTS)
    weight, cost, smallest, waited, iteration = _Weight(), Cost(), float("inf"), 0, 0
    wall, cpu = time.perf_counter(), time.process_time()
    while iteration < max_iterations and waited < _LONGEST_WAIT:
        mask, pattern = torch.sigmoid(free_mask), torch.sigmoid(free_pattern)
        logits = network(images * (1 - mask) + pattern * mask)
        adam.zero_grad()
        (mean_cross_entropy(logits, target) + weight.value * mask.sum()).backward()
        adam.step()
        cost.gradients += len(images)
        iteration += 1
        reached = float((logits.argmax(dim=1) == target).double().mean()) >= GOAL_RATE
        weight.follow(reached=reached)
        size = float(mask.detach().sum())
        shrank = reached and size < _SHRINKS * smallest
        smallest = min(smallest, size) if reached else smallest
        waited = 0 if shrank or smallest == float("inf") else waited + 1
    cost.wall_seconds, cost.cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    return Cleansed(target, smallest, iteration, waited < _LONGEST_WAIT, cost)
