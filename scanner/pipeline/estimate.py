"""How long a search will take, before it starts: images that pass the model, by what each detector does, times a pass.

The counts are those of searches on small networks (`docs/speed.md`); what a pass costs is measured on this model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backscan.scanner.detectors import DETECTORS, RATE_DETECTORS, searching_targets
from backscan.scanner.search.screening import NUM_DRAWN, num_chosen

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.process.protocol import Speed

# Steps of a pair, each over a portion of its images, and how often all of them pass forward beside that.
_STEPS, _FORWARDS = 18, 4
_FEWEST_IN_PORTION, _MOST_PORTIONS = 10, 10
# Pilots: 7 pairs of 25 images, at a few step sizes.
_PILOT_PAIRS, _PILOT_IMAGES, _PILOT_STEPS = 7, 25, 20
# Images of an individual size, and their passes.
_INDIVIDUALS, _INDIVIDUAL_STEPS, _INDIVIDUAL_FORWARDS = 25, 4.4, 1.6
# Passes of one way of transferability, of at most 30 images each way.
_TRANSFER_IMAGES, _TRANSFER_STEPS, _TRANSFER_FORWARDS = 30, 22, 60
# Windows: places of the first grid, rounds of neighbours, and targets that are searched at other sides first.
_PLACES_A_SIDE, _LEAST_STRIDE, _LOOK_IMAGES, _NEIGHBOURS = 9, 4, 9, 27
_FURTHER_TARGETS, _MOST_SOURCES, _MOST_COUNTED = 6, 90, 40
# Images of a first estimate, each passed back once for every target.
_LOOK = 10
# Steps of a detector of targets that informs, over all images.
_TARGET_STEPS = 300


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
        elif name in RATE_DETECTORS:
            found[name] = _of_windows(config, sizes, speed)
        elif (detector := searching_targets(name)) is not None:
            images = sum(sizes.images) if detector.needs_images else 1
            found[name] = _num_targets(config, sizes) * _TARGET_STEPS * images * speed.gradient
    return found


def seconds_a_pair(config: ScanConfig, detector: str, num_images: float, speed: Speed) -> float:
    """Seconds of one pair, with all that is measured beside its pattern."""
    portions = max(1.0, min(_MOST_PORTIONS, num_images // _FEWEST_IN_PORTION))
    gradients, forwards = _STEPS * num_images / portions, _FORWARDS * num_images
    if DETECTORS[detector].measures is not None:
        some = min(_TRANSFER_IMAGES, num_images)
        gradients, forwards = gradients + _TRANSFER_STEPS * some, forwards + _TRANSFER_FORWARDS * some
    if config.measures_individuals_of(detector) and num_images >= _INDIVIDUALS:
        gradients += _INDIVIDUALS * _INDIVIDUAL_STEPS
        forwards += _INDIVIDUALS * _INDIVIDUAL_FORWARDS
    return gradients * speed.gradient + forwards * speed.forward


def seconds_of_look(sizes: Sizes, speed: Speed) -> float:
    """Seconds of a first estimate of all pairs."""
    return sizes.num_pairs * min(_LOOK, sizes.mean_images) * max(0.0, speed.gradient - speed.forward)


def _of_pairs(config: ScanConfig, name: str, sizes: Sizes, speed: Speed, *, screened: bool) -> float:
    number, look = _num_pairs(config, sizes), 0.0
    if screened:
        look = seconds_of_look(sizes, speed)
        number = min(number, NUM_DRAWN + num_chosen(sizes.num_classes, len(sizes.images)))
    pilots = _PILOT_PAIRS * min(_PILOT_IMAGES, sizes.mean_images) * _PILOT_STEPS * speed.gradient
    return pilots + look + number * seconds_a_pair(config, name, sizes.mean_images, speed)


def _of_windows(config: ScanConfig, sizes: Sizes, speed: Speed) -> float:
    sources = [count for count in sizes.images if count >= 20][:_MOST_SOURCES]
    if not sources:
        return 0.0
    height, width = sizes.shape[1:]
    stride = max(_LEAST_STRIDE, -(-max(height, width) // _PLACES_A_SIDE))
    places, rounds = (-(-height // stride)) * (-(-width // stride)), max(1, (stride // 2).bit_length())
    near = _NEIGHBOURS * _LOOK_IMAGES * rounds
    counted = sum(min(_MOST_COUNTED, count - count // 2) for count in sources)
    gradients = _LOOK_IMAGES * places + near + 648
    forwards = _LOOK_IMAGES * places + near + 300 + counted
    targets = _num_targets(config, sizes) + _FURTHER_TARGETS
    return targets * (gradients * speed.gradient + forwards * speed.forward)


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
        )
