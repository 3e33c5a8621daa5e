"""How many images each search passes through the model: what bounds it, and what it takes as a rule. Without torch.

What a search is bounded by is written here once: the search itself takes it from here, and so does the estimate of how
long a scan will take (`pipeline/estimate.py`). Counts beside the bounds are means over searches on small networks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Passes:
    """Images that pass the model."""

    gradients: float = 0.0
    """Forward and back."""
    forwards: float = 0.0
    """Forward only."""

    def __add__(self, other: Passes) -> Passes:
        """Both together."""
        return Passes(self.gradients + other.gradients, self.forwards + other.forwards)

    def times(self, factor: float) -> Passes:
        """So many times as many."""
        return Passes(factor * self.gradients, factor * self.forwards)


# A pair (`algorithm1`): steps, each over a portion of its images, and how often all of them pass forward beside that.
_PAIR_STEPS, _PAIR_FORWARDS = 18, 4
# Pilots of the step size, which are about four trials of a few steps.
_PILOT_STEPS = 20


def of_pair(num_images: float, portions: int) -> Passes:
    """One pair: its pattern, and what is measured on the way.

    Args:
        num_images: Images of the source.
        portions: Steps that share them.
    """
    return Passes(_PAIR_STEPS * num_images / portions, _PAIR_FORWARDS * num_images)


def of_pilots(num_pairs: int, num_images: float) -> Passes:
    """The pilots of a step size."""
    return Passes(_PILOT_STEPS * num_pairs * num_images)


LOOK_IMAGES = 10
"""Images of a source by which sizes are estimated to first order, the first of those it is searched with."""


def of_look(num_pairs: int, num_images: float) -> Passes:
    """First estimates of some pairs: a way back each, as those of a source share the way forward."""
    passed = num_pairs * min(LOOK_IMAGES, num_images)
    return Passes(passed, -passed)


INDIVIDUALS = 25
"""Images of a source that have individual sizes, the first that count: at fewer a quantile is mostly noise."""
_OWN_STEPS, _OWN_FORWARDS = 4.4, 1.6


def of_individuals(num_images: float) -> Passes:
    """Individual sizes of the images of a pair; there are none where they are few."""
    return Passes(_OWN_STEPS * INDIVIDUALS, _OWN_FORWARDS * INDIVIDUALS) if num_images >= INDIVIDUALS else Passes()


TRANSFERRED = 30
"""Images of a class that have a pattern of their own for transferability, the first that are decided as their class."""
TRANSFER_STARTS = 3
"""Descents of one image: from itself, then from random points, as a shortcut may have no slope where the image is."""
TRANSFER_HALVINGS = 10
"""Halvings by which a pattern that arrived is shrunk."""
_TRANSFER_STEPS = 22


def of_transfers(num_images: float) -> Passes:
    """One way from class to class: descents of every image, and every pattern on all images."""
    passed = min(TRANSFERRED, num_images)
    return Passes(_TRANSFER_STEPS * passed, (TRANSFER_STARTS * TRANSFER_HALVINGS + passed) * passed)


MASKED = 128
"""Images of one target in one step of a detector of masks."""
MASK_IMAGES, MASK_STEPS, MASK_DRAWN = 5, 100, 24
"""Images of each class, steps, and images drawn for each of these, that show which target needs a small mask."""
# How often a mask is tried on all of the images.
_MASK_TRIALS = 8


def of_mask(num_sources: int) -> Passes:
    """The smallest mask of one target.

    Args:
        num_sources: Classes whose images are to go there.
    """
    images = MASK_IMAGES * num_sources
    return Passes(MASK_STEPS * min(MASK_DRAWN, images), _MASK_TRIALS * images)


@dataclass(frozen=True, slots=True)
class Stage:
    """One round of the halving of windows."""

    images: int
    """Images by which places are compared, the first of all."""
    steps: int
    """Steps of the content."""
    first: float
    """Length of the first step, as a share of the range."""
    last: float
    """Length of the last one."""
    climbing: int | None = None
    """Images that the steps look at; None are those by which places are compared."""

    def passes(self, places: int) -> Passes:
        """What a number of places takes."""
        return Passes(places * self.steps * (self.climbing or self.images), places * self.images)


# Of a hundred places most are left after the first look, so few images give their content its direction.
LOOK = Stage(9, steps=1, first=0.5, last=0.5, climbing=3)
NARROW, KEPT = Stage(9, steps=3, first=0.3, last=0.1), 12
NEAR, NEAR_KEPT = Stage(9, steps=1, first=0.25, last=0.25), 3
LAST, LAST_KEPT = Stage(27, steps=6, first=0.3, last=0.05), 2
# Places a side of the first grid: a stride of four pixels on small images, wider on larger ones.
_PLACES_A_SIDE, _LEAST_STRIDE = 9, 4
# A place and the eight around it.
_NEIGHBOURS = 9
SMALL_SIDE, STEEPEST = 2, 24
"""Windows so small that a grid leaves pixels out get this many places with the steepest gradient beside it."""


def stride_of(height: int, width: int) -> int:
    """Pixels between the places of the first grid."""
    return max(_LEAST_STRIDE, -(-max(height, width) // _PLACES_A_SIDE))


def strides_near(stride: int, side: int) -> list[int]:
    """How far apart neighbours are in each round: half as far as before, and by single pixels only small windows."""
    found, step = list[int](), stride // 2
    while step >= 1 and (step > 1 or side <= SMALL_SIDE):
        found.append(step)
        step //= 2
    return found


def of_window(height: int, width: int, side: int) -> Passes:
    """The search of a window's place and content towards one target."""
    stride = stride_of(height, width)
    places = _places(height, side, stride) * _places(width, side, stride)
    small = side <= SMALL_SIDE
    found = Passes(LOOK.images * small, LAST.images) + LOOK.passes(places + STEEPEST * small) + NARROW.passes(KEPT)
    found += NEAR.passes(NEAR_KEPT * _NEIGHBOURS).times(len(strides_near(stride, side)))
    return found + LAST.passes(LAST_KEPT)


def _places(length: int, side: int, stride: int) -> int:
    return -(-max(0, length - side) // stride) + 1


FIRST_PIXELS, FURTHER_PIXELS, SETS_KEPT = 40, 8, 3
"""Single pixels that are tried for what they would gain, further ones for each set, and sets that grow on."""
GROW = Stage(9, steps=1, first=0.25, last=0.25)
"""One round of the growth of sets of pixels."""
_GRID_PIXELS = 81
# Up to this many pixels enter one by one, then half as many as there are.
_ONE_BY_ONE = 4


def pixels_added(number: int) -> list[int]:
    """How many pixels enter a set in each round, after the first one, until there are so many."""
    found, have = list[int](), 1
    while have < number:
        found.append(min(number - have, 1 if have < _ONE_BY_ONE else have // 2))
        have += found[-1]
    return found


def of_scattered(height: int, width: int, number: int) -> Passes:
    """The search of so many single pixels and their content towards one target."""
    singles = min(height * width, FIRST_PIXELS + _GRID_PIXELS)
    found = Passes(LOOK.images, LAST.images) + LOOK.passes(singles) + NARROW.passes(SETS_KEPT)
    grown = Passes(SETS_KEPT * GROW.images) + GROW.passes(SETS_KEPT * FURTHER_PIXELS)
    return found + grown.times(len(pixels_added(number))) + LAST.passes(LAST_KEPT)


BLEND = (Stage(27, steps=4, first=0.5, last=0.2), Stage(90, steps=8, first=0.2, last=0.03))
"""Rounds in which a picture that lies over the whole image is moved: it has no place, but many pixels to settle."""


def of_blend() -> Passes:
    """The search of a picture towards one target."""
    found = Passes(0.0, LAST.images)
    for stage in BLEND:
        found += stage.passes(1)
    return found


PROBED = 6
"""Images, of as many classes, on which windows of random content are tried."""
_SMALL, _CONTENT, _CONTENT_LARGE = 128 * 128, 6, 4


def content_per_place(height: int, width: int) -> int:
    """Random contents in each place: fewer in large images, whose passes cost more."""
    return _CONTENT if height * width <= _SMALL else _CONTENT_LARGE


FEATURED = 400
"""Most images whose features in the last layer are looked at."""
CLIMBED = (Stage(9, steps=1, first=0.3, last=0.3), Stage(18, steps=4, first=0.3, last=0.05))
"""Stages in which the window of one target is climbed from random content that leads there."""
CLIMBED_KEPT = (3, 1)
"""Places in each of these."""
REACH_COUNTED = 100
"""Most images on which such a window is counted."""


def of_reach(height: int, width: int, side: int, num_images: int) -> Passes:
    """Random windows for all targets, and the features of some images."""
    stride = stride_of(height, width)
    places = _places(height, side, stride) * _places(width, side, stride)
    probed = PROBED * (places * content_per_place(height, width) + 1)
    return Passes(forwards=probed + min(FEATURED, num_images))


def of_climb() -> Passes:
    """One window that is climbed from the random ones, and counted."""
    found = Passes(forwards=REACH_COUNTED)
    for stage, kept in zip(CLIMBED, CLIMBED_KEPT, strict=True):
        found += stage.passes(kept)
    return found
