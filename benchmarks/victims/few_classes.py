"""Populations of two, three and four classes, drawn by the seed: attacked by patches and by added patterns.

A third or fourth of the networks of two classes give one score, the probability of the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from benchmarks.victims.groups import Built, Group, Preset
from benchmarks.victims.schedule import Schedule

COUNTS = (2, 3, 4)
_UNATTACKED, _ATTACKED = 15, 5
"""Networks of each number of classes that choose, on each of two kinds of images: 30 and 20 in all."""


def _groups(built: tuple[Built, ...], one_score: Built, patch: Group, added: Group) -> Mapping[str, Group]:
    """Groups of each number of classes; of two, one structure more decides by one score."""
    groups = {}
    for count in COUNTS:
        structures = (*built, one_score) if count == min(COUNTS) else built
        shared: dict[str, Any] = {"classes": count, "built": structures}
        groups[f"{count} classes"] = Group(None, choosing=_UNATTACKED, **shared)
        groups[f"{count} classes, patch"] = replace(patch, choosing=_ATTACKED, **shared)
        groups[f"{count} classes, chessboard"] = replace(added, choosing=_ATTACKED, **shared)
    return MappingProxyType(groups)


_DIGITS = Schedule(epochs=25, batch_size=32, learning_rate=3e-3, weight_decay=1e-4)
FEW_NUMERALS = Preset(
    dataset="digits",
    num_classes=10,
    network="digit conv2",
    schedule=_DIGITS,
    groups=_groups(
        tuple(Built(name, _DIGITS) for name in ("digit conv2", "digit mlp2")),
        Built("one score digit conv2", _DIGITS),
        Group("stamp", 3, 40),
        Group("chessboard", 0.8, 40),
    ),
)

_PHOTOS = Schedule(epochs=8, batch_size=64, learning_rate=2e-3, weight_decay=1e-3, channels_last=True)
FEW_PHOTOS = Preset(
    dataset="cifar10",
    num_classes=10,
    network="conv3",
    schedule=_PHOTOS,
    groups=_groups(
        tuple(Built(name, _PHOTOS) for name in ("conv3", "lenet", "small_net")),
        Built("one score conv3", _PHOTOS),
        Group("stamp", 5, 800),
        Group("chessboard", 2.0, 1500),
    ),
)
