"""Unlearning of everything small that leads to another class: recovered, shared by images, or an image's own.

A recovered pattern is not the planted one, and may be far from it. So the copy learns to decide rightly on images with
any of many patterns that are searched against it while it learns (`pool`), and on images each moved by itself as far as
a few patterns of the lesson's size reach. What clean images are decided as is distilled from the copy as it was.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from backscan.scanner.repair.lesson import BATCH, Lesson, batches
from backscan.scanner.repair.pool import Pool
from backscan.scanner.repair.training import Course, Weights

_REACH = 2.0
"""Largest change of a single image, in units of the lesson's size."""
_OWN_STEPS = 3
"""Steps of a single image."""


def minimax(lesson: Lesson) -> Weights:
    """Weights under which neither the pattern nor any other that is searched along the way changes decisions."""
    course, generator = Course(lesson), lesson.generator()
    pool = Pool(lesson, generator)
    everything = torch.arange(len(lesson.images), device=lesson.images.device)
    carriers, attacked = lesson.carriers(), batches(everything, lesson.steps, generator)
    for clean in batches(everything, lesson.steps, generator):
        alone, carrying = _some(everything, generator), next(attacked)
        given = [(lesson.images[clean], clean), (_moved(lesson, course, alone, generator), alone)]
        given += _recovered(lesson, carriers, generator)
        places = pool.draw(len(carrying))
        values = pool.values[places].requires_grad_()
        given.append((pool.embed(lesson.images[carrying], places, values), carrying))
        scores = course.scores(torch.cat([images for images, _ in given]))
        reached = scores[-len(places) :].gather(1, pool.targets[places][:, None]).sum()
        (slopes,) = torch.autograd.grad(reached, values, retain_graph=True)
        course.learn(scores, torch.cat([chosen for _, chosen in given]))
        pool.move(places, slopes)
    return course.learnt


def _recovered(lesson: Lesson, carriers: Tensor, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Images with the recovered pattern, and their places; none in a blind repair."""
    if lesson.pattern is not None:
        chosen = _some(carriers, generator)
        yield lesson.pattern.varied(lesson.images[chosen], generator), chosen


def _some(places: Tensor, generator: torch.Generator) -> Tensor:
    """Half a batch of places, drawn with repetitions."""
    return places[torch.randint(len(places), (BATCH // 2,), generator=generator).to(places.device)]


def _moved(lesson: Lesson, course: Course, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Images each moved away from its own class, by at most a random part of the reach."""
    images, labels = lesson.images[chosen], lesson.labels[chosen]
    weights = course.learnt
    reach = _REACH * lesson.size * torch.rand(len(chosen), 1, 1, 1, generator=generator).to(images.device)
    change = torch.zeros_like(images)
    for _ in range(_OWN_STEPS):
        change = change.requires_grad_()
        scores = lesson.copy.log_posterior((images + change).clamp(0, 1), weights)
        (slope,) = torch.autograd.grad(F.nll_loss(scores, labels, reduction="sum"), change)
        change = change.detach() + 0.5 * reach * slope / _norms(slope)
        change = change * (reach / _norms(change)).clamp_max(1)
    return (images + change).clamp(0, 1)


def _norms(values: Tensor) -> Tensor:
    """L2 norm of each, [N, 1, 1, 1]."""
    norms: Tensor = values.flatten(1).norm(dim=1).clamp_min(1e-12)
    return norms[:, None, None, None]
