"""Bounded activations, after the mitigation of MM-BD: no weight changes, channels may not exceed learnt bounds.

Wang, Xiang, Miller and Kesidis, "MM-BD: Post-Training Detection of Backdoor Attacks with Arbitrary Backdoor Pattern
Types Using a Maximum Margin Statistic", IEEE Symposium on Security and Privacy, 2024. As there, the bounds fall as far
as clean images allow. Beyond it, images with the recovered pattern, where there is one, have to be decided as they are
without it; and a bound counts as a share of the largest value on clean images, as channels have units of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from backscan.converters import Artifact, ModelSignature, Normalisation
from backscan.converters.torch_import.bounds import Bounded, with_bounds
from backscan.scanner.repair.lesson import Lesson, batches

Bounds = dict[str, Tensor]

_LAYERS = 3
"""Layers from the image on that get bounds."""
_RATE = 0.02
"""Step of Adam, as a share of a bound's first value."""
_PRICE, _FACTOR, _LEAST_PRICE = 0.1, 1.1, 1e-3
"""What the mean bound costs at first, by what that changes each step, and the least it becomes."""
_GUIDANCE, _LEAST_GUIDANCE = 0.3, 0.03
"""Weight of images with the pattern beside clean ones, at most and at least; in between it is the price."""
_LOSS = 0.01
"""Loss of the mean probability of what clean images are, up to which bounds get tighter."""
_MOST_LOSS = 0.01
"""Share of the clean decisions that may go wrong in the end."""
_MEMORY = 10
"""Steps over which that loss is averaged."""
_EVERY = 10
"""Steps from one look at the images to the next."""
_MOST_LOOKED_AT = 1000
"""Images of a look."""


def with_bounds_to_learn(
    artifact: Artifact, signature: ModelSignature, normalisation: Normalisation, images: NDArray[np.float32]
) -> Bounded:
    """The file with bounds on its first layers, at the largest values of clean images [N, C, H, W] in [0, 1].

    Raises:
        ConverterError: the file cannot have bounds; the message says why.
    """
    return with_bounds(artifact, signature, normalisation, images, most=_LAYERS)


def bound(lesson: Lesson) -> Bounds:
    """The lowest bounds found that leave clean images their decisions, by name.

    Of those that do, the ones are kept under which most images are decided as what they are, the share of clean ones
    and that of images with the pattern together; without a pattern the last.

    Args:
        lesson: With a copy of the file that has bounds, which are all that may change in it.
    """
    generator, teacher = lesson.generator(), lesson.teacher()
    falling, trial = _Falling(lesson.copy.weights), _Trial(lesson)
    price, lost = _PRICE, 0.0
    planted = _planted(lesson, generator)
    everything = torch.arange(len(lesson.images), device=lesson.images.device)
    for step, chosen in enumerate(batches(everything, lesson.steps, generator), 1):
        carrying, places = next(planted)
        scores = lesson.copy.log_posterior(torch.cat([lesson.images[chosen], carrying]), falling.bounds)
        clean, moved = scores[: len(chosen)], scores[len(chosen) :]
        loss = _apart(clean, teacher[chosen]) + price * falling.height
        if len(moved):
            loss = loss + min(_GUIDANCE, max(_LEAST_GUIDANCE, price)) * _apart(moved, teacher[places])
        falling.step(loss)
        before, now = (_sureness(each, lesson.labels[chosen]) for each in (teacher[chosen], clean.detach()))
        lost += (before - now - lost) / _MEMORY
        price = max(_LEAST_PRICE, price * (_FACTOR if lost <= _LOSS else 1 / _FACTOR))
        if step % _EVERY == 0 or step == lesson.steps:
            trial.see({name: held.detach() for name, held in falling.bounds.items()})
    return trial.best


class _Falling:
    """Bounds below where they began, by the share of that which they fell."""

    def __init__(self, start: Bounds) -> None:
        self._start = start
        self._fallen = {name: torch.zeros_like(held).requires_grad_() for name, held in start.items()}
        self._optimiser = torch.optim.Adam(self._fallen.values(), lr=_RATE)

    @property
    def bounds(self) -> Bounds:
        """The bounds: of a positive start between it and 0, of a negative one down to twice that."""
        return {name: held - self._fallen[name] * held.abs() for name, held in self._start.items()}

    @property
    def height(self) -> Tensor:
        """How much of all bounds is left, the mean over channels: 1 where they began."""
        return 1 - torch.cat([held.flatten() for held in self._fallen.values()]).mean()

    def step(self, loss: Tensor) -> None:
        """A step down a loss."""
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        with torch.no_grad():
            for held in self._fallen.values():
                held.clamp_(0, 1)


class _Trial:
    """Bounds one after another on images of the lesson; the best are kept, at first those at the start."""

    def __init__(self, lesson: Lesson) -> None:
        self._lesson, self._value = lesson, 0.0
        self._places = _spread(torch.arange(len(lesson.images), device=lesson.images.device))
        self._carriers = _spread(lesson.carriers())
        self.best = dict(lesson.copy.weights)
        """The best bounds so far."""
        self._least = self._accuracy(self.best) - _MOST_LOSS

    def see(self, bounds: Bounds) -> None:
        """Keep bounds if they are no worse than the best, and too few clean decisions go wrong to matter."""
        lesson, value = self._lesson, 0.0
        accuracy = self._accuracy(bounds)
        if lesson.pattern is not None and len(self._carriers):
            carrying = lesson.pattern.embed(lesson.images[self._carriers])
            value = accuracy + self._share(carrying, lesson.labels[self._carriers], bounds)
        if accuracy >= self._least and value >= self._value:
            self.best, self._value = bounds, value

    def _accuracy(self, bounds: Bounds) -> float:
        """Share of the clean images that are decided as what they are."""
        return self._share(self._lesson.images[self._places], self._lesson.labels[self._places], bounds)

    def _share(self, images: Tensor, labels: Tensor, bounds: Bounds) -> float:
        """Share of images that are decided as what they are."""
        return float(torch.eq(self._lesson.asked(images, bounds).argmax(dim=1), labels).float().mean())


def _spread(places: Tensor) -> Tensor:
    """So many of some places as a look takes, evenly: images may lie class by class."""
    return places[:: max(1, math.ceil(len(places) / _MOST_LOOKED_AT))]


def _planted(lesson: Lesson, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Images with the recovered pattern and their places, a batch for each step; empty ones without a pattern."""
    if lesson.pattern is None:
        nothing = torch.empty(0, dtype=torch.int64, device=lesson.images.device)
        yield from ((lesson.images[nothing], nothing) for _ in range(lesson.steps))
        return
    for chosen in batches(lesson.carriers(), lesson.steps, generator):
        yield lesson.pattern.varied(lesson.images[chosen], generator), chosen


def _apart(scores: Tensor, teacher: Tensor) -> Tensor:
    """How far log-posteriors [N, K] are from those of the untouched copy: the mean Kullback-Leibler divergence."""
    return F.kl_div(scores, teacher, log_target=True, reduction="batchmean")


def _sureness(scores: Tensor, labels: Tensor) -> float:
    """Mean probability of what images are."""
    return float(scores.gather(1, labels[:, None]).exp().mean())
