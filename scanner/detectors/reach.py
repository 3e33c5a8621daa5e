"""Many classes: which targets are reached farther than all others, for a price that hardly grows with their number.

Every target has two values, from the same passes for all: how far windows of random content bring it nearer, and how
near it is to the images where the last layer sees them (`search/reach.py`). The test compares them with those of all
other targets (`inference/reach.py`). Only where something stands out are windows climbed, towards that and towards
some targets drawn at random; they are what is replayed on the original file. Their side is the largest that was tried
at which windows do not work towards those that were drawn as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backscan.kernels.spacings import FEWEST_VALUES
from backscan.scanner.detectors import counting, window
from backscan.scanner.inference.reach import infer_reach, stand_out, worth_windows
from backscan.scanner.search import effort

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.base import Examination
    from backscan.scanner.results import Inference, SupportRecord, TargetResult
    from backscan.scanner.search.reach import Probes
    from backscan.scanner.search.supports import Supports

NAME = "reach"
_IMAGES_PER_PASS = 32
_SIDES_FURTHER = 2
# Median rate of the drawn targets above which windows of that side tell nothing.
_MOST_MEDIAN = 0.2


def search(examination: Examination) -> Iterator[TargetResult]:
    """Both values of every target, and windows of those that stand out and of some that were drawn."""
    from backscan.scanner.results import PairStatus, TargetResult

    if not any(len(images) > 1 for images in examination.images_by_class.values()):
        return
    look = _Look.at(examination)
    standing = stand_out([look.gains, look.nearness], examination.config.seed)
    worth, drawn = worth_windows(standing, examination.num_classes, examination.config)
    windows = look.windows(worth, drawn) if drawn else {}
    for target in sorted(look.wanted):
        support, value, near = windows.get(target), look.gains[target], look.nearness[target]
        rate = None if support is None else _rate(support)
        steps = 0 if support is None else sum(stage.steps for stage in effort.CLIMBED)
        yield TargetResult(NAME, target, PairStatus.REACHED, value, rate, steps, support, nearness=near)


def infer(targets: Sequence[TargetResult], config: ScanConfig, num_classes: int) -> tuple[Inference, ...]:
    """Whether a target is reached abnormally far."""
    return infer_reach(targets, config, num_classes, detector=NAME)


@dataclass(frozen=True, slots=True)
class _Look:
    """What the looks at all targets gave, and what windows are climbed with."""

    examination: Examination
    """The model, its images and the options."""
    bounds: tuple[Tensor, Tensor]
    """Least and largest value of each channel of clean images, [C, 1]."""
    probes: Probes
    """The random windows."""
    nearness: list[float | None]
    """How near each target is in the last layer, [K]; None of targets that are not wanted."""
    threads: int
    """Passes beside each other."""

    @classmethod
    def at(cls, examination: Examination) -> _Look:
        """Look at all targets."""
        from backscan.scanner.search.reach import Probes, spread_over

        config, shape = examination.config, examination.classifier.signature.input_shape[1:]
        on_cpu = examination.classifier.device.type == "cpu"
        threads = (config.threads or os.cpu_count() or 1) if on_cpu else 1
        searching = [images[: counting.split(len(images))] for images in examination.images_by_class.values()]
        searching = [images for images in searching if len(images)]
        bounds = window.range_of(examination.images_by_class.values())
        probes = Probes.planned((shape[0], shape[1]), window.first_side(*shape), bounds, config.seed)
        probes.ask(
            examination.classifier,
            spread_over(searching, effort.PROBED, config.seed),
            stopped=examination.stopped,
            images_at_once=examination.images_at_once,
            threads=threads,
        )
        near = _nearness(examination, spread_over(searching, effort.FEATURED, config.seed), threads)
        return cls(examination, bounds, probes, near, threads)

    @property
    def wanted(self) -> set[int]:
        """The targets that are looked at."""
        chosen = self.examination.config.targets
        return set(range(self.examination.num_classes) if chosen is None else chosen)

    @property
    def gains(self) -> list[float | None]:
        """How far random windows bring each target, [K]; None of targets that are not wanted."""
        return _compared(self.probes.largest, self.examination)

    @property
    def sides(self) -> list[int]:
        """Sides of the windows that are climbed, the largest first.

        That is larger than the random ones, as those may show a part of a trigger.
        """
        tried = window.sides(*self.examination.classifier.signature.input_shape[1:])
        return tried[tried.index(self.probes.side) + _SIDES_FURTHER :: -1]

    def windows(self, worth: Sequence[int], drawn: Sequence[int]) -> dict[int, SupportRecord | None]:
        """The windows towards the drawn targets, all of one side, and towards those that stand out, at most as large.

        The drawn ones alone decide the side, so that it is chosen without regard to what stands out.
        """
        with ThreadPoolExecutor(self.threads) as pool:
            for side in self.sides:
                is_last = side == self.sides[-1]
                found = self._climbed(pool, drawn[: window.PILOTS], side)
                if is_last or not _too_large(found):
                    found |= self._climbed(pool, drawn[window.PILOTS :], side)
                    if is_last or not _too_large(found):
                        break
            return found | dict(zip(worth, pool.map(lambda target: self._smallest(target, side), worth), strict=True))

    def _smallest(self, target: int, side: int) -> SupportRecord | None:
        """The smallest window that still reaches the goal rate, by bisection; that of the side if even that does not.

        A smaller one than those of the drawn targets only makes it harder to do better than they do, and of a large one
        its content shuffled may do as well.
        """
        tried = [each for each in reversed(self.sides) if each <= side]
        found, low, high = self.window(target, side), 0, len(tried) - 1
        while low < high and found is not None and _rate(found) >= self.examination.config.goal_rate:
            middle = (low + high) // 2
            smaller = self.window(target, tried[middle])
            if smaller is None:
                break
            if _rate(smaller) >= self.examination.config.goal_rate:
                found, high = smaller, middle
            else:
                low = middle + 1
        return found

    def _climbed(self, pool: ThreadPoolExecutor, targets: Sequence[int], side: int) -> dict[int, SupportRecord | None]:
        """The windows of some side towards some targets."""
        return dict(zip(targets, pool.map(lambda target: self.window(target, side), targets), strict=True))

    def window(self, target: int, side: int) -> SupportRecord | None:
        """The window that is climbed towards a target from the random ones that lead there best; None if no time."""
        from backscan.scanner.search.halving import Climb
        from backscan.scanner.search.reach import spread_over
        from backscan.scanner.search.settings import Work

        examination = self.examination
        searching = [
            counting.to_search(examination, label, target) for label in examination.images_by_class if label != target
        ]
        searching = [images for images in searching if len(images)]
        if examination.stopped() or not searching:
            return None
        climb = Climb.towards(
            target,
            examination.classifier,
            spread_over(searching, effort.LAST.images, examination.config.seed),
            self.bounds,
            Work(),
            examination.stopped,
            images_at_once=examination.images_at_once,
        )
        shape = (climb.images.shape[2], climb.images.shape[3])
        supports = self.probes.supports(self.probes.best(target), shape, side)
        for stage, kept in zip(effort.CLIMBED, effort.CLIMBED_KEPT, strict=True):
            supports, scores = climb.ascend(supports[:kept], stage)
            supports = supports[scores.argsort(descending=True, stable=True)]
        return None if examination.stopped() else self._counted(target, supports[:1], side)

    def _counted(self, target: int, support: Supports, side: int) -> SupportRecord:
        """A window with its rates on images that no look has seen, of as many classes as the count allows."""
        import torch

        from backscan.scanner.results import EncodedArray, SupportRecord

        asked: dict[int, Tensor] = {}
        order = np.random.default_rng((self.examination.config.seed, target)).permutation(
            sorted(self.examination.images_by_class)
        )
        for label in order.tolist():
            images = counting.to_count(self.examination, label, target)
            if label != target and len(images) and sum(map(len, asked.values())) + len(images) <= effort.REACH_COUNTED:
                asked[label] = images
        sources, hits = sorted(asked), list[int]()
        for label in sources:
            with torch.no_grad():
                covered = support.on(asked[label]).flatten(0, 1)
                decided = self.examination.classifier.log_posterior(covered).argmax(dim=1)
            hits.append(int((decided == target).sum()))
        return SupportRecord(
            side=side,
            pixels=tuple(support.pixels[0].tolist()),
            content=EncodedArray.encode(support.content[0].cpu().numpy()),
            sources=tuple(sources),
            hits=tuple(hits),
            counts=tuple(len(asked[label]) for label in sources),
        )


def _rate(support: SupportRecord) -> float:
    """Share of the images that were asked which go to the target."""
    return sum(support.hits) / max(1, sum(support.counts))


def _too_large(found: Mapping[int, SupportRecord | None]) -> bool:
    """Whether windows work towards most of the drawn targets; not where the time was up."""
    rates = [_rate(support) for support in found.values() if support is not None]
    return bool(rates) and float(np.median(rates)) > _MOST_MEDIAN


def _nearness(examination: Examination, images: Tensor, threads: int) -> list[float | None]:
    """How near each target is in the last layer; None of a model whose scores no linear layer gives."""
    import torch

    from backscan.converters.cuts.last_layer import last_layer
    from backscan.scanner.search.reach import nearness

    nothing: list[float | None] = [None] * examination.num_classes
    layer = last_layer(examination.classifier, images[:2])
    if layer is None:
        return nothing
    portions = torch.split(images, examination.images_per_pass(_IMAGES_PER_PASS))
    features = layer.features(examination.classifier, portions, threads=threads, stopped=examination.stopped)
    return _compared(nearness(layer, features), examination) if len(features) else nothing


def _compared(values: Tensor, examination: Examination) -> list[float | None]:
    """The values of the wanted targets as they are compared, [K]: in median deviations from the median of their kind.

    Classes whose images the model is asked about lie otherwise among these than classes of which there are none.
    """
    found, chosen = values.numpy(force=True).astype(np.float64), examination.config.targets
    usable = np.isfinite(found)
    usable &= True if chosen is None else np.isin(np.arange(len(found)), chosen)
    asked = np.isin(np.arange(len(found)), list(examination.images_by_class))
    kinds = [kind for kind in (usable & asked, usable & ~asked) if kind.any()]
    scales = [float(np.median(np.abs(found[kind] - np.median(found[kind])))) for kind in kinds]
    # The spread of a few says little, so theirs is that of the others.
    widest = scales[int(np.argmax([kind.sum() for kind in kinds]))] if kinds else 1.0
    for kind, scale in zip(kinds, scales, strict=True):
        own = scale if kind.sum() >= FEWEST_VALUES else widest
        found[kind] = (found[kind] - np.median(found[kind])) / max(own, 1e-12)
    return [float(value) if there else None for value, there in zip(found, usable, strict=True)]
