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
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from backscan.scanner.detectors.targets import search_in_groups
from backscan.scanner.inference.rates import infer_rates, logit_of_rate
from backscan.scanner.search import effort

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.base import Examination
    from backscan.scanner.results import Inference, SupportRecord, TargetResult
    from backscan.scanner.search.halving import Climb
    from backscan.scanner.search.settings import Work
    from backscan.scanner.search.supports import Supports

    Counted = TypeVar("Counted", Tensor, NDArray[np.float32])

NAME = "window"

FEWEST_IMAGES = 20
"""Images of a class without which it is no source."""
# Images of a source that search, and most of those that count.
_SEARCHING, _COUNTED = 20, 40
MOST_SOURCES = 90
"""Sources of one target, of many classes by the seed."""
# Median rate of the targets at the side that is chosen, and where it is best.
_LEAST_MEDIAN, _MOST_MEDIAN, _BEST_MEDIAN = 0.05, 0.2, 0.1
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
    if not plan.sources:
        return
    side = choose_side(plan)
    if side is not None:
        yield from search_in_groups(
            examination, lambda targets: plan.results(targets, side), images_per_target=len(plan.sources)
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


def passes(height: int, width: int) -> effort.Passes:
    """What the search for one target takes."""
    return effort.of_window(height, width, first_side(height, width))


def split(number: int) -> int:
    """How many of a class's images search; the others count. At least 20 count where there are 40."""
    return min(_SEARCHING, number // 2)


def num_counted(number: int) -> int:
    """How many of a class's images count."""
    return min(_COUNTED, number - split(number))


def first_side(height: int, width: int) -> int:
    """The side that is tried first, as near to a tenth of the shorter side as there is one."""
    wanted = max(1, round(_FIRST_SIDE * min(height, width)))
    return max(side for side in sides(height, width) if side <= wanted)


def counted(images: Counted) -> Counted:
    """Those of a class's images that count: the first after those that search."""
    start = split(len(images))
    return images[start : start + _COUNTED]


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


def _find(climb: Climb, side: int) -> tuple[Supports | None, int]:
    from backscan.scanner.search.halving import STEPS, find_window

    return find_window(climb, side), STEPS


def _apart(found: Supports, side: int, shape: tuple[int, int], rng: np.random.Generator) -> Tensor | None:
    """Windows that share no pixel with the one that was found."""
    import torch

    from backscan.scanner.search.supports import window_grid, window_pixels

    own = set(found.pixels[0].tolist())
    corners = window_grid(*shape, side, max(1, side))
    pixels = window_pixels([corners[index] for index in rng.permutation(len(corners))], side, shape[1])
    apart = [row for row in pixels if not own.intersection(row.tolist())][:OTHER_PLACES]
    return torch.stack(apart) if apart else None


WINDOW = Form(NAME, sides, first_side, _find, _apart)
"""Square windows."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Images of the search and of the count, and what was found so far."""

    examination: Examination
    """The model, its images and the options."""
    sources: tuple[int, ...]
    """Classes with enough images, in order."""
    bounds: tuple[Tensor, Tensor]
    """Least and largest value of each channel of clean images, [C, 1]."""
    work: Work
    """Count of what it costs."""
    found: dict[tuple[int, int], TargetResult | None] = field(default_factory=dict)
    """Results by side and target."""
    form: Form = WINDOW
    """What takes the place of the image."""

    @classmethod
    def of(cls, examination: Examination, form: Form = WINDOW) -> Plan:
        """The plan for a model: its sources, and the range of its images."""
        from backscan.scanner.search.settings import Work

        by_class = examination.images_by_class
        sources = [label for label, images in sorted(by_class.items()) if len(images) >= FEWEST_IMAGES]
        drawn = np.random.default_rng(examination.config.seed).permutation(len(sources))[:MOST_SOURCES]
        chosen = tuple(sources[index] for index in sorted(drawn))
        return cls(examination, chosen, range_of(by_class.values()), Work(), form=form)

    def results(self, targets: Sequence[int], side: int) -> list[TargetResult]:
        """What content of some size does towards some targets; none of those for which the time was up."""
        for target in targets:
            if (side, target) not in self.found:
                self.found[side, target] = self._result(target, side)
        return [found for target in targets if (found := self.found[side, target]) is not None]

    def _result(self, target: int, side: int) -> TargetResult | None:
        from backscan.scanner.results import PairStatus, TargetResult
        from backscan.scanner.search.halving import Climb

        searching = self._interleaved(target)
        if not len(searching):
            return None
        climb = Climb.towards(
            target,
            self.examination.classifier,
            searching,
            self.bounds,
            self.work,
            self.examination.stopped,
            images_at_once=self.examination.images_at_once,
        )
        found, steps = self.form.find(climb, side)
        if found is None or self.examination.stopped():
            return None
        support = self._record(climb, found, side)
        hits, count = sum(support.hits), sum(support.counts)
        if not count:
            return None
        return TargetResult(
            self.form.name, target, PairStatus.REACHED, logit_of_rate(hits, count), hits / count, steps, support=support
        )

    def _interleaved(self, target: int) -> Tensor:
        """Images that search, class after class in turn, without those decided as the target already."""
        import torch

        columns = []
        for source in self.sources:
            images = self.examination.images_by_class[source]
            images = images[: split(len(images))]
            if source != target:
                decided = self.examination.decisions_by_class[source][: len(images)]
                columns.append(list(images[decided != target]))
        turns = range(max(map(len, columns), default=0))
        rows = [column[turn] for turn in turns for column in columns if turn < len(column)]
        return torch.stack(rows) if rows else next(iter(self.examination.images_by_class.values()))[:0]

    def _counting(self, source: int, target: int) -> Tensor:
        """Images of a source that count: not seen by the search, and not decided as the target."""
        images = self.examination.images_by_class[source]
        return counted(images)[counted(self.examination.decisions_by_class[source]) != target]

    def _record(self, climb: Climb, found: Supports, side: int) -> SupportRecord:
        """The content with its rates."""
        from backscan.scanner.results import EncodedArray, SupportRecord

        asked = {source: self._counting(source, climb.target) for source in self.sources if source != climb.target}
        asked = {source: images for source, images in asked.items() if len(images)}
        pixels, (height, width) = found.pixels[0].tolist(), climb.images.shape[2:]
        return SupportRecord(
            side=side,
            pixels=tuple(pixels) if len(pixels) < height * width else (),
            content=EncodedArray.encode(found.content[0].cpu().numpy()),
            sources=tuple(asked),
            hits=tuple(self._hits(found, images, climb.target) for images in asked.values()),
            counts=tuple(map(len, asked.values())),
            rate_elsewhere=self._rate_elsewhere(climb, found, side),
            opacity=found.opacity if found.opacity < 1.0 else None,
        )

    def _hits(self, content: Supports, images: Tensor, target: int) -> int:
        """Images decided as the target with the content in its place."""
        import torch

        self.work.forwards += len(content) * len(images)
        with torch.no_grad():
            log_posterior = self.examination.classifier.log_posterior(content.on(images).flatten(0, 1))
        return int((log_posterior.argmax(dim=1) == target).sum())

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
        return self._hits(moved, images, climb.target) / (len(places) * len(images))


def choose_side(plan: Plan) -> int | None:
    """The side at which a few targets have the wanted median rate, else the nearest; None if the time was up."""
    examination = plan.examination
    shape = examination.classifier.signature.input_shape[1:]
    tried, medians = plan.form.sides(*shape), dict[int, float]()
    place = tried.index(plan.form.first(*shape))
    while 0 <= place < len(tried) and tried[place] not in medians:
        median = _median_rate(plan, tried[place])
        if median is None:
            return None
        medians[tried[place]] = median
        if _LEAST_MEDIAN <= median <= _MOST_MEDIAN:
            return tried[place]
        place += 1 if median < _LEAST_MEDIAN else -1
    return nearest_side(medians)


def nearest_side(medians: Mapping[int, float]) -> int:
    """Of sides none of which has the wanted median the one that is nearest to it."""

    def distance(side: int) -> float:
        rate = min(max(medians[side], 1e-3), 1 - 1e-3)
        return abs(float(np.log(rate / (1 - rate)) - np.log(_BEST_MEDIAN / (1 - _BEST_MEDIAN))))

    return min(sorted(medians), key=distance)


def _median_rate(plan: Plan, side: int) -> float | None:
    """Median rate of the pilot targets; None if the time was up."""
    examination = plan.examination
    config = examination.config
    wanted = range(examination.num_classes) if config.targets is None else sorted(set(config.targets))
    drawn = np.random.default_rng((config.seed, 1)).permutation(len(wanted))[:PILOTS]
    pilots, rates = [wanted[index] for index in drawn], list[float]()
    most = len(pilots) // 2 + 1
    for asked in (pilots[:most], pilots[most:]):
        few = replace(examination, config=replace(config, targets=tuple(sorted(asked))))
        found = search_in_groups(few, lambda targets: plan.results(targets, side), images_per_target=len(plan.sources))
        own = [entry.rate for entry in found if entry.rate is not None]
        if len(own) < len(asked):
            return None
        rates += own
        # The others cannot bring the median back.
        if max(rates) < _LEAST_MEDIAN or min(rates) > _MOST_MEDIAN:
            break
    return float(np.median(rates))


def range_of(classes: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Least and largest value of each channel of some images, [C, 1] each."""
    import torch

    every = torch.stack([torch.stack(_extremes(images)) for images in classes])  # [S, 2, C]
    return every[:, 0].amin(dim=0).unsqueeze(1), every[:, 1].amax(dim=0).unsqueeze(1)


def _extremes(images: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest value of each channel, [C] each."""
    return images.amin(dim=(0, 2, 3)), images.amax(dim=(0, 2, 3))
