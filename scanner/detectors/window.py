"""Windows: what share of the other classes' images one content in one place sends to each target.

After the maximum achievable misclassification of the authors' companion paper: for each target a square window is
filled with one common content; content and place are searched (`search/halving.py`) on some of the images, and the
rates are counted on others. A patch that was planted works on nearly all of them where ordinary content does not.

One side serves all targets of a model, chosen by the median target: too small a window leaves all rates at zero, one
too large lets ordinary content succeed. Some targets, drawn by the seed, are searched at side after side until their
median rate is as wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.detectors.counting import Counting
from backscan.scanner.detectors.targets import search_in_groups
from backscan.scanner.inference.rates import infer_rates, logit_of_rate
from backscan.scanner.search import effort

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.base import Examination
    from backscan.scanner.results import Inference, TargetResult
    from backscan.scanner.search.halving import Climb
    from backscan.scanner.search.supports import Supports

NAME = "window"

PILOTS = 5
"""Targets by which a side is judged."""
_FIRST_SIDE, _LARGEST_SIDE = 0.1, 0.25
# Sides next to each other differ by at least a pixel, and by this factor.
_NEXT_SIDE = 1.4
OTHER_PLACES, IMAGES_ELSEWHERE = 4, 18
"""Places at which content is tried elsewhere, and images there."""


def search(examination: Examination) -> Iterator[TargetResult]:
    """The best window towards every wanted target, with its rates."""
    yield from search_form(examination, WINDOW)


def search_form(examination: Examination, form: Form) -> Iterator[TargetResult]:
    """The best content of one form towards every wanted target, with its rates."""
    plan = Plan.of(examination, form)
    if not plan.counting.sources:
        return
    side = choose_side(plan)
    if side is not None:
        yield from search_in_groups(
            examination, lambda targets: plan.results(targets, side), images_per_target=len(plan.counting.sources)
        )


def infer(targets: Sequence[TargetResult], config: ScanConfig, num_classes: int) -> tuple[Inference, ...]:
    """Whether a target, or a pair, is reached by abnormally many images."""
    return infer_rates(targets, config, num_classes, detector=NAME)


def sides(height: int, width: int) -> list[int]:
    """Sides that are tried, from a pixel to a quarter of the shorter side of the image."""
    largest, found = max(1, int(_LARGEST_SIDE * min(height, width))), [1]
    while found[-1] < largest:
        found.append(min(largest, max(found[-1] + 1, round(found[-1] * _NEXT_SIDE))))
    return found


def passes(height: int, width: int, _num_sources: int) -> effort.Passes:
    """What the search for one target takes."""
    return effort.of_window(height, width, first_side(height, width))


def first_side(height: int, width: int) -> int:
    """The side that is tried first, as near to a tenth of the shorter side as there is one."""
    wanted = max(1, round(_FIRST_SIDE * min(height, width)))
    return max(side for side in sides(height, width) if side <= wanted)


@dataclass(frozen=True, slots=True)
class Medians:
    """Median rates of the targets at the size that is chosen, shares of the images."""

    least: float
    """Below it a larger size is tried."""
    most: float
    """Above it a smaller one."""
    best: float
    """The rate that is aimed at where no size is between them."""
    enough: float = 0.0
    """Below it, at the size that is nearest, nothing is searched."""
    too_much: float = 1.0
    """Above it neither: what works on all images sets no target apart."""


@dataclass(frozen=True, slots=True)
class Form:
    """What takes the place of the image: how large it may be, how it is searched, and where else it can stand."""

    name: str
    """Detector that searches it."""
    sides: Callable[[int, int], list[int]]
    """(height, width) -> sizes that are tried, the least first."""
    first: Callable[[int, int], int]
    """(height, width) -> the one that is tried first."""
    find: Callable[[Climb, int], tuple[Supports | None, int]]
    """(what it is moved for, size) -> the content that sends most images there, and its steps; None if no time."""
    apart: Callable[[Supports, int, tuple[int, int], np.random.Generator], Tensor | None]
    """(what was found, size, height and width, random numbers) -> pixels of some other places, [P, k]; None if none."""
    medians: Medians = Medians(least=0.05, most=0.2, best=0.1)
    """By which the size is chosen."""


def find(climb: Climb, side: int) -> tuple[Supports | None, int]:
    """The window of some side that sends most images there, and its steps."""
    from backscan.scanner.search.halving import STEPS, find_window

    return find_window(climb, side), STEPS


def apart(found: Supports, side: int, shape: tuple[int, int], rng: np.random.Generator) -> Tensor | None:
    """Windows that share no pixel with the one that was found."""
    import torch

    from backscan.scanner.search.supports import window_grid, window_pixels

    own = set(found.pixels[0].tolist())
    corners = window_grid(*shape, side, max(1, side))
    pixels = window_pixels([corners[index] for index in rng.permutation(len(corners))], side, shape[1])
    rows = [row for row in pixels if not own.intersection(row.tolist())][:OTHER_PLACES]
    return torch.stack(rows) if rows else None


WINDOW = Form(NAME, sides, first_side, find, apart)
"""Square windows."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Images of the search and of the count, and what was found so far."""

    counting: Counting
    """The model, and the images of its sources."""
    bounds: tuple[Tensor, Tensor]
    """Least and largest value of each channel of clean images, [C, 1]."""
    found: dict[tuple[int, int], TargetResult | None] = field(default_factory=dict)
    """Results by side and target."""
    form: Form = WINDOW
    """What takes the place of the image."""

    @classmethod
    def of(cls, examination: Examination, form: Form = WINDOW) -> Plan:
        """The plan for a model: its sources, and the range of its images."""
        return cls(Counting.of(examination), range_of(examination.images_by_class.values()), form=form)

    @property
    def examination(self) -> Examination:
        """The model, its images and the options."""
        return self.counting.examination

    def results(self, targets: Sequence[int], side: int) -> list[TargetResult]:
        """What content of some size does towards some targets; none of those for which the time was up."""
        for target in targets:
            if (side, target) not in self.found:
                self.found[side, target] = self._result(target, side)
        return [found for target in targets if (found := self.found[side, target]) is not None]

    def climb(self, target: int) -> Climb | None:
        """What content is moved for, towards one target, by the images that search; None without any."""
        from backscan.scanner.search.halving import Climb

        searching = self.counting.searching(target)
        if not len(searching):
            return None
        return Climb.towards(
            target,
            self.examination.classifier,
            searching,
            self.bounds,
            self.counting.work,
            self.examination.stopped,
            images_at_once=self.examination.images_at_once,
        )

    def _result(self, target: int, side: int) -> TargetResult | None:
        from backscan.scanner.results import PairStatus, TargetResult

        climb = self.climb(target)
        if climb is None:
            return None
        found, steps = self.form.find(climb, side)
        if found is None or self.examination.stopped():
            return None
        elsewhere = self._rate_elsewhere(climb, found, side)
        support = self.counting.record(target, found, side=side, rate_elsewhere=elsewhere)
        hits, count = sum(support.hits), sum(support.counts)
        if not count:
            return None
        return TargetResult(
            self.form.name, target, PairStatus.REACHED, logit_of_rate(hits, count), hits / count, steps, support=support
        )

    def _rate_elsewhere(self, climb: Climb, found: Supports, side: int) -> float | None:
        """Rate of the content at some other places, on images of the search."""
        from backscan.scanner.search.supports import Supports

        height, width = climb.images.shape[2:]
        rng = np.random.default_rng((self.examination.config.seed, climb.target))
        places = self.form.apart(found, side, (height, width), rng)
        if places is None:
            return None
        images = climb.images[:IMAGES_ELSEWHERE]
        content = found.content.expand(len(places), -1, -1)
        moved = Supports(places.to(found.pixels.device), content, found.opacity)
        return self.counting.hits(moved, images, climb.target) / (len(places) * len(images))


def choose_side(plan: Plan) -> int | None:
    """The side at which a few targets have the wanted median rate, else the nearest.

    None if that has too low or too high a rate to be searched, or the time was up.
    """
    examination, wanted = plan.examination, plan.form.medians
    shape = examination.classifier.signature.input_shape[1:]
    tried, medians = plan.form.sides(*shape), dict[int, float]()
    place = tried.index(plan.form.first(*shape))
    while 0 <= place < len(tried) and tried[place] not in medians:
        median = _median_rate(plan, tried[place])
        if median is None:
            return None
        medians[tried[place]] = median
        if wanted.least <= median <= wanted.most:
            return tried[place]
        place += 1 if median < wanted.least else -1
    nearest = nearest_side(medians, wanted.best)
    return nearest if wanted.enough <= medians[nearest] <= wanted.too_much else None


def nearest_side(medians: Mapping[int, float], best: float) -> int:
    """Of sides none of which has the wanted median the one that is nearest to the best."""

    def distance(side: int) -> float:
        rate = min(max(medians[side], 1e-3), 1 - 1e-3)
        return abs(float(np.log(rate / (1 - rate)) - np.log(best / (1 - best))))

    return min(sorted(medians), key=distance)


def _median_rate(plan: Plan, side: int) -> float | None:
    """Median rate of the pilot targets; None if the time was up."""
    examination = plan.examination
    config = examination.config
    wanted = range(examination.num_classes) if config.targets is None else sorted(set(config.targets))
    pilots, rates = [wanted[index] for index in pilots_of(len(wanted), config.seed)], list[float]()
    most = len(pilots) // 2 + 1
    for asked in (pilots[:most], pilots[most:]):
        few = replace(examination, config=replace(config, targets=tuple(sorted(asked))))
        found = search_in_groups(
            few, lambda targets: plan.results(targets, side), images_per_target=len(plan.counting.sources)
        )
        own = [entry.rate for entry in found if entry.rate is not None]
        if len(own) < len(asked):
            return None
        rates += own
        # The others cannot bring the median back.
        if max(rates) < plan.form.medians.least or min(rates) > plan.form.medians.most:
            break
    return float(np.median(rates))


def pilots_of(num_targets: int, seed: int) -> list[int]:
    """Which of some targets are searched first, in turn; the first three alone where the others cannot change it."""
    drawn: list[int] = np.random.default_rng((seed, 1)).permutation(num_targets)[:PILOTS].tolist()
    return drawn


def range_of(classes: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Least and largest value of each channel of some images, [C, 1] each."""
    import torch

    every = torch.stack([torch.stack(_extremes(images)) for images in classes])  # [S, 2, C]
    return every[:, 0].amin(dim=0).unsqueeze(1), every[:, 1].amax(dim=0).unsqueeze(1)


def _extremes(images: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest value of each channel, [C] each."""
    return images.amin(dim=(0, 2, 3)), images.amax(dim=(0, 2, 3))
