"""How long a search will take, before it starts: images that pass the model, by what each detector does, times a pass.

What a search passes is told by itself (`search/effort.py`); what a pass costs is measured on this model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backscan.scanner.detectors import DETECTORS, RATE_DETECTORS, TARGET_DETECTORS, counting, reach, window
from backscan.scanner.detectors.pair_search import PILOT_IMAGES, PILOT_PAIRS
from backscan.scanner.inference.reach import NUM_CONTROLS
from backscan.scanner.search import effort
from backscan.scanner.search.effort import Passes
from backscan.scanner.search.screening import NUM_DRAWN, num_chosen
from backscan.scanner.search.steps import STEP_RULES

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.targets import RateDetector
    from backscan.scanner.process.protocol import Speed

# Sides of windows that are tried before one is chosen, as a rule, beside that.
_FURTHER_SIDES = 1
# Windows that are climbed where a target stands out, as a rule: those of drawn targets, of some at another side, and
# three for the target.
_CLIMBS = NUM_CONTROLS + window.PILOTS + 3


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the cost of a search follows from."""

    num_classes: int
    """Classes of the model."""
    images: Sequence[int]
    """Images of each class that has some."""
    shape: tuple[int, int, int]
    """Channels, height and width."""

    @property
    def num_pairs(self) -> int:
        """Pairs whose source has images."""
        return len(self.images) * (self.num_classes - 1)

    @property
    def mean_images(self) -> float:
        """Mean images of a class."""
        return sum(self.images) / max(1, len(self.images))


def seconds_by_detector(config: ScanConfig, sizes: Sizes, speed: Speed, *, screened: bool) -> dict[str, float]:
    """Seconds that each of the chosen detectors will take.

    Args:
        config: Options; `detectors` are the chosen ones.
        sizes: Classes and images.
        speed: What a pass costs.
        screened: Whether only some pairs are searched, after a look at all.
    """
    found: dict[str, float] = {}
    for name in config.detectors:
        if name in DETECTORS:
            found[name] = _of_pairs(config, name, sizes, speed, screened=screened)
        elif name == reach.NAME:
            found[name] = seconds_of(_of_reach(sizes), speed)
        elif name in RATE_DETECTORS:
            found[name] = _of_content(config, RATE_DETECTORS[name], sizes, speed)
        elif (detector := TARGET_DETECTORS.get(name)) is not None:
            passed = detector.images_passed(config, sum(sizes.images))
            found[name] = _num_targets(config, sizes) * seconds_of(Passes(passed), speed)
    return found


def seconds_a_pair(config: ScanConfig, detector: str, num_images: float, speed: Speed) -> float:
    """Seconds of one pair, with all that is measured beside its pattern."""
    passes = effort.of_pair(num_images, STEP_RULES[config.step_rule].portions_of(int(num_images)))
    if DETECTORS[detector].measures is not None:
        passes += effort.of_transfers(num_images)
    if config.measures_individuals_of(detector):
        passes += effort.of_individuals(num_images)
    return seconds_of(passes, speed)


def seconds_of(passes: Passes, speed: Speed) -> float:
    """Seconds of some passes."""
    return max(0.0, passes.gradients * speed.gradient + passes.forwards * speed.forward)


def seconds_of_look(sizes: Sizes, speed: Speed) -> float:
    """Seconds of a first estimate of all pairs."""
    return seconds_of(effort.of_look(sizes.num_pairs, sizes.mean_images), speed)


def _of_pairs(config: ScanConfig, name: str, sizes: Sizes, speed: Speed, *, screened: bool) -> float:
    number, look = _num_pairs(config, sizes), 0.0
    if screened:
        look = seconds_of_look(sizes, speed)
        number = min(number, NUM_DRAWN + num_chosen(sizes.num_classes, len(sizes.images)))
    pilots = seconds_of(effort.of_pilots(PILOT_PAIRS, min(PILOT_IMAGES, sizes.mean_images)), speed)
    return pilots + look + number * seconds_a_pair(config, name, sizes.mean_images, speed)


def _of_content(config: ScanConfig, detector: RateDetector, sizes: Sizes, speed: Speed) -> float:
    sources = sorted(count for count in sizes.images if count >= counting.FEWEST_IMAGES)[: counting.MOST_SOURCES]
    if not sources and detector.tries_sides:
        return 0.0  # masks are searched with few images, on which to count costs nothing to speak of
    height, width = sizes.shape[1:]
    counted = sum(counting.num_counted(count) for count in sources)
    passes = detector.passes or window.passes
    one = passes(height, width, len(sizes.images) - 1) + Passes(forwards=counted)
    targets = _num_targets(config, sizes)
    if detector.tries_sides:
        one += Passes(forwards=window.OTHER_PLACES * window.IMAGES_ELSEWHERE)
        targets += _FURTHER_SIDES * min(window.PILOTS, targets)
    return targets * seconds_of(one, speed)


def _of_reach(sizes: Sizes) -> Passes:
    """Looks at all targets; windows are climbed only where something stands out, which nobody knows before."""
    height, width = sizes.shape[1:]
    num_searching = sum(counting.split(count) for count in sizes.images)
    return effort.of_reach(height, width, window.first_side(height, width), num_searching)


def _num_targets(config: ScanConfig, sizes: Sizes) -> int:
    return sizes.num_classes if config.targets is None else len(set(config.targets))


def _num_pairs(config: ScanConfig, sizes: Sizes) -> int:
    if config.pairs is not None:
        return len(set(config.pairs))
    return sizes.num_pairs * _num_targets(config, sizes) // max(1, sizes.num_classes)


@dataclass(frozen=True, slots=True)
class Costs:
    """What a search is estimated to take, in seconds."""

    by_detector: Mapping[str, float] = field(default_factory=dict)
    """Each detector, in the order in which they search."""
    a_pair: Mapping[str, float] = field(default_factory=dict)
    """One pair of each that searches pairs."""
    look: float = 0.0
    """A first estimate of all pairs."""
    more: float = 0.0
    """What comes on top if a target stands out among many classes, which nobody knows before."""

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.by_detector.values())

    @property
    def shares(self) -> dict[str, float]:
        """Which share of the time that is left each detector gets in its turn: as much as of a whole scan."""
        left, found = self.total, {}
        for name, own in self.by_detector.items():
            found[name] = own / left if left > 0.0 else 1.0
            left = max(0.0, left - own)
        return found

    @classmethod
    def of(cls, config: ScanConfig, sizes: Sizes, speed: Speed, *, screened: bool) -> Costs:
        """The costs of the chosen detectors, see `seconds_by_detector`."""
        seconds = seconds_by_detector(config, sizes, speed, screened=screened)
        in_order = sorted(seconds, key=lambda name: name not in DETECTORS)  # pairs before targets
        return cls(
            {name: seconds[name] for name in in_order},
            {name: seconds_a_pair(config, name, sizes.mean_images, speed) for name in seconds if name in DETECTORS},
            seconds_of_look(sizes, speed) if screened else 0.0,
            seconds_of(effort.of_climb().times(_CLIMBS), speed) if reach.NAME in config.detectors else 0.0,
        )


NO_COSTS = Costs()
"""Where nothing was estimated."""
