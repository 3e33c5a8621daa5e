"""Repairs by training: the pattern unlearned, and plain fine-tuning as the control. All weights of the copy change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from backscan.scanner.repair.lesson import Lesson, Pattern, batches, common_pattern

_RATE = 1e-3
"""Step of Adam at the start; it falls to 0 along half a cosine."""
_ROUNDS = 24
"""How often a pattern that still works is searched."""

Weights = dict[str, Tensor]


def unlearn(lesson: Lesson) -> Weights:
    """Weights under which the pattern, and what takes its place, leaves decisions as they are."""
    return _train(lesson, planted=True)


def fine_tune(lesson: Lesson, start: Mapping[str, Tensor] | None = None) -> Weights:
    """Weights trained on the clean images alone, from those of the file or from others."""
    return _train(lesson, planted=False, start=start)


class Course:
    """Weights on their way: what is learnt of each batch, in steps that shorten."""

    def __init__(self, lesson: Lesson, start: Mapping[str, Tensor] | None = None, *, rate: float = _RATE) -> None:
        held = lesson.copy.weights if start is None else start
        self._lesson = lesson
        self.weights = {name: values.clone().requires_grad_() for name, values in held.items()}
        """Weights by name."""
        self._optimiser = torch.optim.Adam(self.weights.values(), lr=rate)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimiser, lambda step: _fall(step, lesson.steps))

    @cached_property
    def _teacher(self) -> Tensor:
        """What the untouched copy says of the clean images, [N, K]."""
        return self._lesson.teacher()

    def scores(self, images: Tensor) -> Tensor:
        """Log-posteriors [N, K] of images under the weights as they are now."""
        return self._lesson.copy.log_posterior(images, self.weights)

    def learn(self, scores: Tensor, chosen: Tensor) -> None:
        """A step towards what images are, and what the untouched copy says of them without a pattern.

        Args:
            scores: Log-posteriors [N, K], of `scores`.
            chosen: Places of the clean images that they come from, [N].
        """
        loss = F.nll_loss(scores, self._lesson.labels[chosen])
        loss = loss + F.kl_div(scores, self._teacher[chosen], log_target=True, reduction="batchmean")
        loss.backward()  # type: ignore[no-untyped-call]
        self.step()

    def follow(self, scores: Tensor, taught: Tensor, weight: float) -> None:
        """Add to the next step a pull towards what the untouched copy says of clean images.

        Args:
            scores: Log-posteriors [N, K], of `scores`.
            taught: What `taught` gives of the images as they were before anything was put on them, [N, K].
            weight: Of their mean, beside others of the same step.
        """
        loss = weight * F.kl_div(scores, taught, log_target=True, reduction="batchmean")
        loss.backward()  # type: ignore[no-untyped-call]

    def taught(self, images: Tensor) -> Tensor:
        """Log-posteriors [N, K] of images under the weights as they were at first."""
        with torch.no_grad():
            return self._lesson.copy.log_posterior(images)

    def step(self) -> None:
        """The step that was learnt for."""
        self._optimiser.step()
        self._optimiser.zero_grad()
        self._schedule.step()

    @property
    def learnt(self) -> Weights:
        """The weights."""
        return {name: held.detach() for name, held in self.weights.items()}


def _train(lesson: Lesson, *, planted: bool, start: Mapping[str, Tensor] | None = None) -> Weights:
    course, generator = Course(lesson, start), lesson.generator()
    everything = torch.arange(len(lesson.images), device=lesson.images.device)
    carriers = lesson.carriers() if planted else everything[:0]
    planting = _planting(lesson, course.weights) if planted else None
    attacked = batches(carriers, lesson.steps, generator) if planted else iter([])
    for clean in batches(everything, lesson.steps, generator):
        images, chosen = lesson.images[clean], clean
        if planting is not None:
            carrying = next(attacked)
            varied = next(planting).varied(lesson.images[carrying], generator)
            images, chosen = torch.cat([images, varied]), torch.cat([clean, carrying])
        course.learn(course.scores(images), chosen)
    return course.learnt


def _fall(step: int, steps: int) -> float:
    return float(0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / steps))))


def _planting(lesson: Lesson, weights: Weights) -> Iterator[Pattern]:
    """A pattern for each step: the recovered one, and in between those that still work.

    These are searched again and again, towards the known target and, in between, towards the others in turns: an attack
    may have more directions than the one that was recovered.
    """
    generator, found = lesson.generator(), list[Pattern]()
    num_classes = lesson.copy.classifier.signature.num_classes
    others = [label for label in torch.randperm(num_classes, generator=generator).tolist() if label != lesson.target]
    each = max(1, lesson.steps // _ROUNDS)
    for step in range(lesson.steps):
        if step % each == 0:
            turn = step // each
            target = others[turn // 2 % len(others)] if turn % 2 or lesson.target is None else lesson.target
            found.append(common_pattern(lesson, weights, target))
        yield lesson.pattern if lesson.pattern is not None and step % 2 == 0 else found[-1]
