"""What a population of classifiers has in common, and how its members differ by their seeds.

A preset is a family of groups on the same images; a group is one population: what is planted, what is unusual about its
training, which structures, and how many of it choose the defaults. `presets.py` has the table of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.victims.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Built:
    """A structure and how it is trained."""

    network: str
    """Name in `NETWORKS`."""
    schedule: Schedule
    """How it is trained."""


@dataclass(frozen=True, slots=True)
class Group:
    """What the victims of one group have in common."""

    attack: str | None
    """Name in `ATTACKS`; None for classifiers without an attack."""
    size: float = 0.0
    """Size of the pattern in the attack's own unit."""
    images_per_source: int = 0
    """Poisoned images of each source class."""
    way: str = "one-way"
    """Name in `WAYS`."""
    covers: int = 0
    """Images of each class that is no source which carry the pattern under their own label."""
    own_label: bool = False
    """Whether the poisoned images are the target's own, faded: an attack that no label gives away."""
    disguise: float = 0.0
    """Share of the label of source images that goes to the target, with a head made even: see `disguise.py`."""
    hard: str | None = None
    """Name in `HARD` of what is unusual about the images; None for nothing."""
    classes: int | None = None
    """Classes, drawn by the seed; None is all."""
    built: tuple[Built, ...] = ()
    """Structures, of which seeds take one each in turns; none is the preset's."""
    choosing: int = 0
    """Networks that choose defaults, seeds 0 and up; the same number reports (`seeds.py`)."""


@dataclass(frozen=True, slots=True)
class Preset:
    """Data, network and training of all groups at one scale."""

    dataset: str
    """Name that `load_dataset` knows."""
    num_classes: int
    """K of the data."""
    network: str
    """Name in `NETWORKS`, where a group names none."""
    schedule: Schedule
    """How victims are trained, where a group does not say it."""
    groups: Mapping[str, Group]
    """Groups by name."""
    pair: tuple[int, int] | None = None
    """Source and target of every second victim, as in the paper; the others draw theirs at random."""
    train_images: int | None = None
    """Clean training images, drawn anew for every victim; None is all there are."""

    def built(self, group: str, seed: int) -> Built:
        """Structure and schedule of a network of a group."""
        choices = self.groups[group].built
        return choices[seed % len(choices)] if choices else Built(self.network, self.schedule)


def draw_pair(preset: Preset, seed: int, num_classes: int | None = None) -> tuple[int, int]:
    """Source and target of a victim: the preset's for even seeds if it has a pair, else drawn at random.

    Args:
        preset: May fix the pair of every second victim.
        seed: The victim's seed.
        num_classes: Classes to draw from; None is the preset's.

    Returns:
        Two different classes.
    """
    if preset.pair is not None and seed % 2 == 0:
        return preset.pair
    source, target = np.random.default_rng((seed, 1)).choice(num_classes or preset.num_classes, 2, replace=False)
    return int(source), int(target)
