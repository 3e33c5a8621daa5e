"""Pruning guided by the pattern: channels that it drives, and that clean images leave as they are, go."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from backscan.converters.errors import ConverterError
from backscan.converters.torch_import.trainable import Layer
from backscan.scanner.repair.lesson import Lesson, Pattern, parts

_MOST_PRUNED = 0.3
"""Largest share of all channels that is tried."""
_LOSS = 0.01
"""Share of clean decisions on the images of the repair that may go wrong."""
_TRIALS = 12


def prune(lesson: Lesson) -> dict[str, Tensor]:
    """Weights without the fewest channels that leave the pattern without effect, those it drives most first.

    Raises:
        ConverterError: the model has no layer with channels.
    """
    layers, pattern = lesson.copy.layers(), lesson.pattern
    if not layers or pattern is None:
        raise ConverterError("expected convolutions whose channels can be pruned, found none: use --method unlearn")
    order = _driven(lesson, layers, pattern)
    least, best = _rates(lesson, lesson.copy.weights, pattern)[1] - _LOSS, dict(lesson.copy.weights)
    num_classes = lesson.copy.classifier.signature.num_classes
    lowest = 1.0
    for share in torch.linspace(0, 1, _TRIALS + 1)[1:].square().tolist():
        count = max(1, round(share * _MOST_PRUNED * len(order)))
        weights = _without(lesson, layers, order[:count])
        success, accuracy = _rates(lesson, weights, pattern)
        if accuracy < least:
            break
        if success < lowest:
            best, lowest = weights, success
        if success <= 1 / num_classes:
            break
    return best


def _driven(lesson: Lesson, layers: tuple[Layer, ...], pattern: Pattern) -> list[tuple[int, int]]:
    """Layer and channel, those first that the pattern moves farthest in units of their spread on clean images."""
    carriers = lesson.images[lesson.carriers()][:256]
    clean = _strengths(lesson, layers, lesson.images[:512])
    spread = [values.std(dim=0).clamp_min(1e-6) for values in clean]
    before = _strengths(lesson, layers, carriers)
    after = _strengths(lesson, layers, pattern.embed(carriers))
    moved = [((b - a).abs().mean(dim=0) / s) for a, b, s in zip(before, after, spread, strict=True)]
    ranked = [(float(value), place, row) for place, rows in enumerate(moved) for row, value in enumerate(rows)]
    return [(place, row) for _, place, row in sorted(ranked, reverse=True)]


def _strengths(lesson: Lesson, layers: tuple[Layer, ...], images: Tensor) -> list[Tensor]:
    """Largest value of every channel on every image, [N, channels] a layer."""
    held: list[list[Tensor]] = [[] for _ in layers]

    def keep(place: int, given: Tensor) -> None:
        held[place].append(given.flatten(2).amax(dim=2) if given.dim() > 2 else given)

    hooks = [
        layer.module.register_forward_hook(lambda _m, _i, given, place=place: keep(place, given))
        for place, layer in enumerate(layers)
    ]
    try:
        with torch.no_grad():
            for part in parts(images):
                lesson.copy.log_posterior(part)
    finally:
        for hook in hooks:
            hook.remove()
    return [torch.cat(each) for each in held]


def _without(lesson: Lesson, layers: tuple[Layer, ...], gone: list[tuple[int, int]]) -> dict[str, Tensor]:
    """The weights with the rows of some channels at 0."""
    weights = {name: values.clone() for name, values in lesson.copy.weights.items()}
    for place, layer in enumerate(layers):
        chosen = [row for where, row in gone if where == place]
        for key in layer.tensors if chosen else ():
            name, mask = lesson.copy.stored_mask(key, chosen)
            weights[name][mask] = 0
    return weights


def _rates(lesson: Lesson, weights: Mapping[str, Tensor], pattern: Pattern) -> tuple[float, float]:
    """Success of the pattern and clean accuracy on the images of the repair."""

    def decide(images: Tensor) -> Tensor:
        return torch.cat([lesson.copy.log_posterior(part, weights).argmax(dim=1) for part in parts(images)])

    with torch.no_grad():
        moved = decide(pattern.embed(lesson.images[lesson.carriers()]))
        success = torch.eq(moved, -1 if lesson.target is None else lesson.target).float().mean()
        accuracy = torch.eq(decide(lesson.images), lesson.labels).float().mean()
    return float(success), float(accuracy)
