"""Everything that decides a trained network, and its name in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

from benchmarks.victims.groups import Group, draw_pair
from benchmarks.victims.presets import PRESETS
from benchmarks.victims.schedule import Schedule
from benchmarks.victims.ways import WAYS

FORMAT = 1
"""Counts changes of this code after which victims of the same plan differ."""
_FIRST_FIELDS = frozenset(
    {"attack", "size", "images_per_source", "way", "epochs", "batch_size", "learning_rate", "weight_decay"}
    | {"label_smoothing", "augment", "embed_last", "exact_layers", "train_images"}
)
"""Fields that digests have held since the first rows; later ones enter where they say something, so that a field more
changes no digest of a network that it says nothing of."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides a victim."""

    preset: str
    """Name in `PRESETS`."""
    group: str
    """Name of the group, for tables."""
    dataset: str
    """Name that `load_dataset` knows."""
    network: str
    """Name in `NETWORKS`."""
    schedule: Schedule
    """How it is trained."""
    attack: Group
    """What is planted; what the plan says itself, such as the structure, is left out there."""
    targets: tuple[tuple[int, int], ...]
    """Source and target classes; none without an attack."""
    seed: int
    """Decides split, pattern, poisoned images and training."""
    train_images: int | None = None
    """Clean training images, drawn by the seed; None is all there are."""
    hard: str | None = None
    """Name in `HARD` of what is unusual about the images."""
    classes: int | None = None
    """Classes, drawn by the seed; None is all."""

    @property
    def digest(self) -> str:
        """Name of the victim in the cache."""
        described = json.dumps({"format": FORMAT, **_described(self)}, sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()[:16]


def make_plans(preset: str, group: str, seeds: Sequence[int]) -> list[Plan]:
    """Plans of the victims of one group.

    Args:
        preset: Name in `PRESETS`.
        group: Name among the preset's groups.
        seeds: A seed for each victim.

    Returns:
        A plan for each seed.

    Raises:
        ValueError: unknown names.
    """
    if preset not in PRESETS or group not in PRESETS[preset].groups:
        known = ", ".join(PRESETS[preset].groups) if preset in PRESETS else ", ".join(PRESETS)
        raise ValueError(f"expected one of {known}, got {group if preset in PRESETS else preset!r}")
    return [_plan(preset, group, seed) for seed in seeds]


def _plan(preset: str, name: str, seed: int) -> Plan:
    scale = PRESETS[preset]
    group, built = scale.groups[name], scale.built(name, seed)
    num_classes = group.classes or scale.num_classes
    return Plan(
        preset=preset,
        group=name,
        dataset=scale.dataset,
        network=built.network,
        schedule=built.schedule,
        attack=replace(group, hard=None, classes=None, built=(), choosing=0),
        targets=_targets(group, draw_pair(scale, seed, num_classes), num_classes),
        seed=seed,
        train_images=scale.train_images,
        hard=group.hard,
        classes=group.classes,
    )


def _targets(attack: Group, pair: tuple[int, int], num_classes: int) -> tuple[tuple[int, int], ...]:
    return () if attack.attack is None else tuple(WAYS[attack.way](*pair, num_classes).items())


def _described(plan: Plan | Group | Schedule) -> dict[str, Any]:
    """The fields of a plan and of what it holds, later ones only where they differ from their default."""
    described = {}
    for each in fields(plan):
        value = getattr(plan, each.name)
        if each.default is MISSING or each.name in _FIRST_FIELDS or value != each.default:
            described[each.name] = _described(value) if isinstance(value, Group | Schedule) else value
    return described
