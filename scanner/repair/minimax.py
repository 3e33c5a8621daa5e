"""Unlearning of everything small that leads to another class, as far as decisions on clean images allow.

A recovered pattern is not the planted one, but often near it. So the copy learns to decide images with it, with
patterns near it, with many others (`pool`), and images that are each moved by themselves, as it decided the clean
images before. Patterns are searched against it while it learns. Few images teach this, and images that it has not
seen pay for it. So what is known to be needed (the recovered pattern and those near it) keeps its weight, and the rest
weighs as much as the clean images bear: less while more of their decisions change than may.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from backscan.scanner.repair.lesson import BATCH, Lesson
from backscan.scanner.repair.pool import Moving, near_patterns, other_patterns
from backscan.scanner.repair.training import Course, Weights
from backscan.scanner.repair.varied import mixed, turned

_CLEAN, _KNOWN = 8.0, 0.5
"""Weights of the clean images, and of those with the recovered pattern and those with patterns near it."""
_NUM_CLEAN = 128
"""Clean images in a step."""
_MOST, _LESS, _MORE = 20.0, 0.7, 1.3
"""Most that the rest weighs, and by what its weight falls and rises."""
_ASKED_EACH, _MOST_ASKED = 10, 512
"""Steps after which the clean images are asked again, and the most that are."""
_RATE = 2e-3
"""Step of Adam at the start."""
_REACH = 2.0
"""Largest change of a single image, in units of the lesson's size."""
_OWN_STEPS = 2
"""Steps of a single image."""


class _Patience(NamedTuple):
    """What clean images bear."""

    may_lose: float
    """Accuracy that the untouched copy may expect to lose on them, by its own posterior."""
    start: float
    """Weight of the rest at first."""
    least: float
    """Least that it weighs."""


_OF_ATTACKED, _OF_UNKNOWN = _Patience(0.005, 0.3, 0.005), _Patience(0.001, 0.05, 0.0005)
"""Where a target is known, and where perhaps nothing needs a repair."""


def minimax(lesson: Lesson) -> Weights:
    """Weights under which neither the pattern nor any other that is searched along the way changes decisions."""
    course, rest, generator = Course(lesson, rate=_RATE), _Rest(lesson), lesson.generator()
    near, others = near_patterns(lesson, generator), other_patterns(lesson, generator)
    everything = torch.arange(len(lesson.images), device=lesson.images.device)
    carriers = lesson.carriers()
    for step in range(lesson.steps):
        clean = mixed(_some(lesson, everything, _NUM_CLEAN, generator), generator)
        course.follow(course.scores(clean), course.taught(clean), _CLEAN)
        alone = _some(lesson, everything, BATCH, generator)
        taught = course.taught(alone)
        moved = _moved(lesson, course.learnt, alone, taught.argmax(dim=1), generator)
        course.follow(course.scores(moved), taught, rest.weight)
        _unlearn(course, others, _some(lesson, everything, BATCH, generator), rest.weight)
        if lesson.pattern is not None and len(carriers):
            carrying = _some(lesson, carriers, BATCH // 2, generator)
            varied = lesson.pattern.varied(carrying, generator)
            course.follow(course.scores(varied), course.taught(carrying), _KNOWN)
        if near is not None and len(carriers):
            _unlearn(course, near, _some(lesson, carriers, BATCH // 2, generator), _KNOWN)
        course.step()
        rest.after(step, course.learnt)
    return course.learnt


class _Rest:
    """Weight of what may be needed, by how many decisions on clean images it has changed so far."""

    def __init__(self, lesson: Lesson) -> None:
        self._patience = _OF_UNKNOWN if lesson.target is None else _OF_ATTACKED
        self.weight = self._patience.start
        """Of images with other patterns, and of images moved by themselves."""
        self._lesson = lesson
        places = torch.linspace(0, len(lesson.images) - 1, min(len(lesson.images), _MOST_ASKED)).long()
        self._images = lesson.images[places.to(lesson.images.device)]
        self._posterior = lesson.asked(self._images).exp()

    def after(self, step: int, weights: Weights) -> None:
        """Ask the clean images, every few steps."""
        if (step + 1) % _ASKED_EACH:
            return
        decided = self._lesson.asked(self._images, weights).argmax(dim=1, keepdim=True)
        lost = (self._posterior.amax(dim=1) - self._posterior.gather(1, decided)[:, 0]).mean()
        factor = _LESS if lost > self._patience.may_lose else _MORE
        self.weight = min(_MOST, max(self._patience.least, self.weight * factor))


def _some(lesson: Lesson, places: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """So many clean images, drawn with repetitions and turned."""
    chosen = places[torch.randint(len(places), (count,), generator=generator).to(places.device)]
    return turned(lesson.images[chosen], generator)


def _unlearn(course: Course, patterns: Moving, images: Tensor, weight: float) -> None:
    """Teach images with some of the patterns, and move these on by the same passes."""
    places = patterns.draw(len(images))
    values = patterns.values[places].requires_grad_()
    scores = course.scores(patterns.embed(images, places, values))
    reached = scores.gather(1, patterns.targets[places][:, None]).sum()
    (slopes,) = torch.autograd.grad(reached, values, retain_graph=True)
    course.follow(scores, course.taught(images), weight)
    patterns.move(places, slopes)


def _moved(lesson: Lesson, weights: Weights, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Images each moved away from its own class, by at most a random part of the reach."""
    reach = _REACH * lesson.size * torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device)
    change = torch.zeros_like(images)
    for _ in range(_OWN_STEPS):
        change = change.requires_grad_()
        scores = lesson.copy.log_posterior((images + change).clamp(0, 1), weights)
        (slope,) = torch.autograd.grad(F.nll_loss(scores, labels, reduction="sum"), change)
        change = change.detach() + 1.4 / _OWN_STEPS * reach * slope / _norms(slope)
        change = change * (reach / _norms(change)).clamp_max(1)
    return (images + change).clamp(0, 1)


def _norms(values: Tensor) -> Tensor:
    """L2 norm of each, [N, 1, 1, 1]."""
    norms: Tensor = values.flatten(1).norm(dim=1).clamp_min(1e-12)
    return norms[:, None, None, None]
