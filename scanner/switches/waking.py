"""Search one pattern that wakes a unit on many images: the smallest steps that bring it to where it decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_LONGEST = 0.05
"""Longest step, in pixel units of L2 norm per root of the number of pixels."""
_FARTHER = 0.5
"""By which part of the way the unit is moved on where it does not decide yet at the number that was wanted."""
_NEAR = 0.1
"""Part of the way up to which it counts as gone: the last steps would be small."""
_PATIENCE = 4
"""Steps that must gain as much."""
_BENDS = 4.0
"""By how much a unit may exceed what its slope promises for a pattern of full range, else it is out of reach."""
_TINY = 1e-20


def wake(
    twin: Callable[[torch.Tensor], torch.Tensor],
    starts: NDArray[np.float32],
    wanted: float,
    *,
    sign: int,
    spread: float,
    steps: int,
    deadline: float,
) -> Iterator[NDArray[np.float32]]:
    """Grow a pattern that is the same for all images.

    Every step goes as far as the linear model of the unit puts the number that is wanted, so that a filter is met in
    few steps and by the least pattern.

    Args:
        twin: Numbers [N, M] of the places of a unit on images [N, C, H, W].
        starts: Images that the pattern is added to, in [0, 1].
        wanted: Number at which the unit is known to decide.
        sign: 1 where it is above what the unit holds on ordinary images, -1 below.
        spread: How much the unit varies, for what counts as its strongest place.
        steps: Longest search; it also ends where the unit has no gradient, or is out of reach.
        deadline: When to give up, on the monotonic clock.

    Yields:
        The pattern [C, H, W] after each step.
    """
    import torch

    images = torch.from_numpy(np.ascontiguousarray(starts))
    pattern, goal, longest = torch.zeros_like(images[0]), sign * wanted, _LONGEST * float(np.sqrt(images[0].numel()))
    levels = list[float]()
    for _ in range(steps):
        if time.monotonic() > deadline:
            return
        level, gradient = _strongest(twin, (images + pattern).clamp(0.0, 1.0), sign, spread)
        levels.append(level)
        way = max(goal - levels[0], spread)
        if level >= goal - _NEAR * way:
            goal += _FARTHER * way
        norm = float(gradient.norm())
        stuck = len(levels) > _PATIENCE and level - levels[-1 - _PATIENCE] < _NEAR * way
        if stuck or goal - level > _BENDS * float(gradient.abs().sum()) or not norm > _TINY:
            return
        pattern = (pattern + min(longest, (goal - level) / norm) / norm * gradient).clamp(-1.0, 1.0)
        yield pattern.numpy()


def _strongest(
    twin: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, sign: int, spread: float
) -> tuple[float, torch.Tensor]:
    """Mean over images of what the strongest places of a unit hold, and its gradient for the pattern."""
    import torch

    images = images.requires_grad_()
    numbers = sign * twin(images)
    level = (torch.softmax(numbers.detach() / spread, dim=1) * numbers).sum(dim=1).mean()
    if not level.requires_grad:
        return float(level), torch.zeros_like(images[0])
    (gradient,) = torch.autograd.grad(level, images, allow_unused=True, materialize_grads=True)
    # What a pixel at its bound would have to leave moves nothing there.
    blocked = ((images <= 0) & (gradient < 0)) | ((images >= 1) & (gradient > 0))
    return float(level.detach()), gradient.masked_fill(blocked | ~gradient.isfinite(), 0.0).sum(dim=0)
