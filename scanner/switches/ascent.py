"""Search an image on which a switch of the graph turns: ascent on the gate's relaxed twin, judged by the real gate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_PUSH = 0.5
"""L2 length of a step, in pixel units, where the twin says that the gate is open and it is not."""
_LONGEST = 0.02
"""Longest step, in pixel units of L2 norm per root of the number of pixels: small changes are tried first."""
_PATIENCE = 10
"""Steps near the border after which it is crossed by force; exact equality needs some steps there."""
_NEAR = 1e-5
"""What is near the border, relative to how far the gate was from it at first."""


def search(
    twin: Callable[[torch.Tensor], torch.Tensor],
    starts: NDArray[np.float32],
    turned: Callable[[NDArray[np.float32]], NDArray[np.bool_]],
    *,
    sign: int,
    steps: int,
    deadline: float,
) -> Iterator[NDArray[np.float32]]:
    """Move images, and give them whenever the switch turns on some of them.

    The twin is not negative where the gate is open, so every step goes as far as its linear model puts the zero (the
    step of Polyak): conditions that are linear in the pixels, exact equality among them, are met in few steps.

    Args:
        twin: Relaxed gate of images [N, C, H, W].
        starts: Where to begin, [N, C, H, W] in [0, 1].
        turned: Which of the images turn the switch, asked after every step.
        sign: 1 to open the gate, -1 to close it.
        steps: Longest search; it also ends where no image has a gradient, as for what is multiplied by zero.
        deadline: When to give up, on the monotonic clock.

    Yields:
        The images after each step on which at least one of them turns the switch.
    """
    import torch

    ascent = _Ascent(twin, torch.from_numpy(np.ascontiguousarray(starts)), sign)
    for _ in range(steps):
        if not ascent.step():
            break
        images = ascent.images.numpy()
        if turned(images).any():
            yield images
        if time.monotonic() > deadline:
            break


class _Ascent:
    """Images on their way to where the twin is not negative."""

    def __init__(self, twin: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, sign: int) -> None:
        import torch

        self.images = images
        self._twin = twin
        self._sign = sign
        self._longest = max(_PUSH, _LONGEST * float(np.sqrt(images[0].numel())))
        self._waited = torch.zeros(len(images))
        self._scale: torch.Tensor | None = None

    def step(self) -> bool:
        """Move every image once; False if the twin is flat at all of them, so that they stay where they are."""
        import torch

        openness, gradient = self._evaluate()
        if not gradient.any():
            return False
        if self._scale is None:
            self._scale = openness.abs()
        self._waited = torch.where(openness > -_NEAR * self._scale, self._waited + 1, 0)
        squared = gradient.square().sum(dim=(1, 2, 3)).clamp_min(1e-30)
        push = (openness >= 0) | (self._waited > _PATIENCE)
        length = torch.where(push, _PUSH, -openness / squared.sqrt()).clamp_max(self._longest)
        self.images = (self.images + (length / squared.sqrt())[:, None, None, None] * gradient).clamp(0.0, 1.0)
        return True

    def _evaluate(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Openness [N] and its gradient [N, C, H, W], without what the bounds block."""
        import torch

        images = self.images.detach().requires_grad_()
        openness = self._sign * _one_per_image(self._twin(images).float(), len(images))
        if not openness.requires_grad:  # no way from the image has a gradient: flat everywhere
            return openness, torch.zeros_like(self.images)
        (gradient,) = torch.autograd.grad(openness.sum(), images, allow_unused=True, materialize_grads=True)
        # A pixel at its bound that is pushed against it does not count for how far the others must go.
        blocked = ((images <= 0) & (gradient < 0)) | ((images >= 1) & (gradient > 0))
        return openness.detach(), gradient.masked_fill(blocked | ~gradient.isfinite(), 0.0)


def _one_per_image(numbers: torch.Tensor, count: int) -> torch.Tensor:
    """One number for each image; a gate that all images share is shared."""
    if numbers.numel() % count == 0:
        return numbers.reshape(count, -1).sum(dim=1)
    return numbers.sum().expand(count)
