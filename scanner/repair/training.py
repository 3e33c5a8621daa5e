"""Repairs by training: the pattern unlearned, and plain fine-tuning as the control. All weights of the copy change."""

from __future__ import annotations

from collections.abc import Iterator

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


def fine_tune(lesson: Lesson) -> Weights:
    """Weights trained on the clean images alone."""
    return _train(lesson, planted=False)


def _train(lesson: Lesson, *, planted: bool) -> Weights:
    weights = {name: held.clone().requires_grad_() for name, held in lesson.copy.weights.items()}
    optimiser = torch.optim.Adam(weights.values(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _fall(step, lesson.steps))
    teacher, generator = lesson.teacher(), lesson.generator()
    everything = torch.arange(len(lesson.images), device=lesson.images.device)
    carriers = lesson.carriers() if planted else everything[:0]
    planting = _planting(lesson, weights) if planted else None
    attacked = batches(carriers, lesson.steps, generator) if planted else iter([])
    for clean in batches(everything, lesson.steps, generator):
        images, chosen = lesson.images[clean], clean
        if planting is not None:
            carrying = next(attacked)
            varied = next(planting).varied(lesson.images[carrying], generator)
            images, chosen = torch.cat([images, varied]), torch.cat([clean, carrying])
        scores = lesson.copy.log_posterior(images, weights)
        loss = F.nll_loss(scores, lesson.labels[chosen])
        loss = loss + F.kl_div(scores, teacher[chosen], log_target=True, reduction="batchmean")
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return {name: held.detach() for name, held in weights.items()}


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
