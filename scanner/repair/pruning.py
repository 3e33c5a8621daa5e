"""Pruning guided by the pattern: channels that it drives, and that clean images leave as they are, go."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from backscan.converters.errors import ConverterError
from backscan.converters.torch_import.trainable import Layer
from backscan.scanner.repair.lesson import Lesson, Pattern, parts
from backscan.scanner.repair.training import fine_tune

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
    if not len(lesson.carriers()):
        raise ConverterError("expected images of other classes than the target to prune by, found none: pass some")
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


def fine_prune(lesson: Lesson) -> dict[str, Tensor]:
    """Fine-Pruning, as a comparison: channels of the last layer that clean images move least go, then fine-tuning.

    As many go as cost a point of accuracy at most; they are taken out again after the training.

    Raises:
        ConverterError: the model has no layer with channels.
    """
    layers = lesson.copy.layers()[-1:]
    if not layers:
        raise ConverterError("expected convolutions whose channels can be pruned, found none: use --method unlearn")
    (strengths,) = _strengths(lesson, layers, lesson.images[:512])
    order = [(0, int(row)) for row in strengths.mean(dim=0).argsort()]
    least, best, gone = (
        _accuracy(lesson, lesson.copy.weights) - _LOSS,
        dict(lesson.copy.weights),
        list[tuple[int, int]](),
    )
    most = len(order) - 1  # something has to be left
    for count in sorted({min(most, round(len(order) * step / _TRIALS)) for step in range(1, _TRIALS)} - {0}):
        weights = _without(lesson, layers, order[:count])
        if _accuracy(lesson, weights) < least:
            break
        best, gone = weights, order[:count]
    tuned = fine_tune(lesson, best)
    return _without(lesson, layers, gone, tuned)


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


def _without(
    lesson: Lesson, layers: tuple[Layer, ...], gone: list[tuple[int, int]], held: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """The weights, or the given ones, with the rows of some channels at 0."""
    weights = {name: values.clone() for name, values in (held or lesson.copy.weights).items()}
    for place, layer in enumerate(layers):
        chosen = [row for where, row in gone if where == place]
        for key in layer.tensors if chosen else ():
            name, mask = lesson.copy.stored_mask(key, chosen)
            weights[name][mask] = 0
    return weights


def _rates(lesson: Lesson, weights: Mapping[str, Tensor], pattern: Pattern) -> tuple[float, float]:
    """Success of the pattern and clean accuracy on the images of the repair."""
    moved = _decided(lesson, weights, pattern.embed(lesson.images[lesson.carriers()]))
    success = torch.eq(moved, -1 if lesson.target is None else lesson.target).float().mean()
    return float(success), _accuracy(lesson, weights)


def _accuracy(lesson: Lesson, weights: Mapping[str, Tensor]) -> float:
    """Share of the images of the repair that are decided as what they are."""
    return float(torch.eq(_decided(lesson, weights, lesson.images), lesson.labels).float().mean())


def _decided(lesson: Lesson, weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
    return lesson.asked(images, weights).argmax(dim=1)
