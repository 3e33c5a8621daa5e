"""Units that hold the same on all ordinary images, and how far they must be moved until they decide.

How far is told in spreads of what moves a unit over ordinary images, so that no scale of the weights before or behind
it hides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.converters.switches.units import Layer, Ranges

    Indices = NDArray[np.intp]

LEVELS = (2.0, 16.0, 128.0)
"""Spreads beyond its range to which a unit is moved."""
SHARE = 0.8
"""Share of the images of a class that one unit, or one pattern, must send to one class."""
FEWEST_CLASSES = 3
_STILL = 1e-3
"""Range of a unit over the images, relative to its size, up to which it stands still."""
_FAINT = 0.02
"""The same in ranges of the middle unit of its layer: what wakes a unit a little makes no use of it."""
_LEAST_SPREAD = 0.1
"""Least spread that counts, in those of the middle unit of the layer: what is dark on all images has none."""
_ROUNDS = 3
_MOST_NUMBERS = 1 << 23
"""Numbers of a layer that are moved at once."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A channel, or an element, that stands still."""

    places: Indices
    """Its elements in the layer, flat."""
    sign: int = 1
    """Way to move it."""
    level: float = 0.0
    """Spreads by which it is known to decide; 0 if that is not known."""


@dataclass(frozen=True, slots=True)
class Dormant:
    """A layer with units that stand still."""

    layer: Layer
    """The layer."""
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Least and largest number before each element, flat."""
    spread: NDArray[np.float64]
    """Spread of each element, flat."""
    ordinary: NDArray[np.float64]
    """What each element holds on ordinary images, flat."""
    still: NDArray[np.bool_]
    """Which elements stand still, flat."""
    units: tuple[Unit, ...]
    """Channels that stand still, and elements that do in layers without places."""
    rest: Unit | None
    """Other elements that do, all together."""

    @property
    def count(self) -> int:
        """Units that stand still."""
        return len(self.units) + (len(self.rest.places) if self.rest else 0)

    def moved(self, values: NDArray[Any], unit: Unit, level: float) -> NDArray[Any]:
        """What moves the layer [N, ...] with one unit moved by so many spreads."""
        moved = values.reshape(len(values), -1).copy()
        moved[:, unit.places] = self.number(unit, level)
        return moved.reshape(values.shape)

    def number(self, unit: Unit, level: float) -> NDArray[np.float64]:
        """What is before each place of a unit then."""
        bound = self.bounds[unit.sign > 0][unit.places]
        return np.asarray(bound + unit.sign * level * self.spread[unit.places])


def dormant_units(layer: Layer, ranges: Ranges) -> Dormant:
    """Which units of a layer stand still on the images that its ranges are of."""
    from backscan.converters.switches.units import channel_axis

    low, high = (_flat(each, layer) for each in ranges.before)
    least, most = (_flat(each, layer) for each in ranges.after)
    still = most - least <= np.maximum(_STILL * np.maximum(1.0, np.abs(most)), _FAINT * _middle(most - least))
    spread = (high - low) / 4
    middle = _middle(spread) or max(1.0, float(np.abs(high).max()))
    still &= np.isfinite(spread) & np.isfinite(least)
    by_channel = np.moveaxis(np.arange(still.size).reshape(layer.shape), channel_axis(layer.shape), 0)
    by_channel = by_channel.reshape(len(by_channel), -1)
    whole = still[by_channel].all(axis=1)
    others = by_channel[~whole].T.ravel() if layer.fine else np.zeros(0, int)  # place by place
    others = others[still[others]]
    return Dormant(
        layer=layer,
        bounds=(low, high),
        spread=np.maximum(spread, _LEAST_SPREAD * middle),
        ordinary=(least + most) / 2,
        still=still,
        units=tuple(Unit(places) for places in by_channel[whole]),
        rest=Unit(others) if len(others) else None,
    )


class Mover:
    """Moves the units of a layer on some images, and sees what is decided.

    Args:
        dormant: The layer.
        decide: Images [N, C, H, W] and what is before the layer [N, ...] -> decisions [N].
        images: Ordinary images.
        values: What is before the layer on them.
        decisions: What they are decided as.
    """

    def __init__(
        self,
        dormant: Dormant,
        decide: Callable[[NDArray[np.float32], NDArray[Any]], NDArray[np.int64]],
        images: NDArray[np.float32],
        values: NDArray[Any],
        decisions: NDArray[np.int64],
    ) -> None:
        self._dormant = dormant
        self._decide = decide
        self._images = images
        self._values = values
        self._decisions = decisions

    def deciding(self, units: Sequence[Unit]) -> list[Unit]:
        """Those units that decide when moved, either way, each with the least level at which it does."""
        found = [replace(unit, sign=sign) for unit in units for sign in self._dormant.layer.signs]
        active = list(range(len(found)))
        for level in reversed(LEVELS):
            decide = self._decide_at([found[index] for index in active], level)
            active = [index for index, decides in zip(active, decide, strict=True) if decides]
            for index in active:
                found[index] = replace(found[index], level=level)
        return [unit for unit in found if unit.level > 0]

    def narrowed(self, unit: Unit) -> Unit:
        """The smallest part of a unit that decides: half of it as long as one does, the easier one."""
        while len(unit.places) > 1:
            middle = len(unit.places) // 2
            halves = [Unit(unit.places[:middle]), Unit(unit.places[middle:])]
            deciding = [half for half in self.deciding(halves) if half.sign == unit.sign]
            if not deciding:
                break
            unit = min(deciding, key=lambda half: half.level)
        return unit

    def refined(self, unit: Unit) -> Unit:
        """The unit with a level near the least at which it decides."""
        failed = max((level for level in LEVELS if level < unit.level), default=LEVELS[0] / 8)
        for _ in range(_ROUNDS):
            level = float(np.sqrt(failed * unit.level))
            if self._decide_at([unit], level)[0]:
                unit = replace(unit, level=level)
            else:
                failed = level
        return unit

    def _decide_at(self, units: Sequence[Unit], level: float) -> list[bool]:
        """Which of some units send images of enough classes to one class when they are moved so far."""
        size = max(1, _MOST_NUMBERS // self._values.size)
        found: list[bool] = []
        for start in range(0, len(units), size):
            some = units[start : start + size]
            moved = np.concatenate([self._dormant.moved(self._values, unit, level) for unit in some])
            decisions = self._decide(np.tile(self._images, (len(some), 1, 1, 1)), moved.astype(self._values.dtype))
            rows = decisions.reshape(len(some), -1)
            found += [len(sent(self._decisions, row)[1]) >= FEWEST_CLASSES for row in rows]
        return found


def sent(before: NDArray[np.int64], after: NDArray[np.int64]) -> tuple[int, list[int]]:
    """The class that most images change to, and the other classes most of whose images are decided as it then."""
    changed = before != after
    if not changed.any():
        return -1, []
    target = int(np.bincount(after[changed]).argmax())
    others = [int(label) for label in np.unique(before) if label != target]
    return target, [label for label in others if np.mean(after[before == label] == target) >= SHARE]


def _middle(ranges: NDArray[np.float64]) -> float:
    """The median of those that are not 0; 0 if there are none."""
    moving = ranges[ranges > 0]
    return float(np.median(moving)) if moving.size else 0.0


def _flat(array: NDArray[np.float64], layer: Layer) -> NDArray[np.float64]:
    return np.broadcast_to(array, layer.shape).astype(np.float64).ravel()
