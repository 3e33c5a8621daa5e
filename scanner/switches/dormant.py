"""Backdoors behind units that stand still on all ordinary images, at any width and on any layer.

Dead units are common, and most of them collapse the decisions when they are forced. So one is a finding only if it is
shown at work: one pattern within the range of pixels sends most images of three or more classes to one class in the
original file, and with the units held at what they ordinarily are the same images keep their decisions.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from backscan.converters.errors import ConverterError
from backscan.scanner.results import DORMANT_UNIT, DormantUnits, GraphFinding
from backscan.scanner.switches.findings import reason_of, spread, synthetic_images
from backscan.scanner.switches.units import FEWEST_CLASSES, SHARE, Dormant, Mover, Unit, dormant_units, sent
from backscan.scanner.switches.waking import wake

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.converters import OrtClassifier
    from backscan.converters.switches.probe import GraphProbe
    from backscan.converters.switches.units import Layer, UnitProbe
    from backscan.scanner.switches.judging import Decide

    Images = NDArray[np.float32]

SECONDS, SECONDS_ALONE = 120.0, 6.0
"""Time for them, with ordinary images and without, as `inspect` is to be quick."""
_NUMBERS_WATCHED = 1 << 27
"""Numbers that are computed to see which units stand still."""
_FEWEST_WATCHED, _MOST_WATCHED = 16, 256
_PASSES_OF_WATCHING = 6
"""What that costs, in runs of the model on each of the fewest images that are watched."""
_NUMBERS_MOVED = 1 << 28
"""Numbers that are computed to see which of them decide when they are moved."""
_CLASSES_MOVED = 6
"""Images on which units are moved, each of another class."""
_NUMBERS_SEARCHED = 1 << 29
"""Numbers that are computed, forwards and back, to search patterns, and at least those of one unit."""
_SEARCHED = 4
"""Units for which a pattern is searched, those first that decide the nearest to where they ordinarily are."""
_STEPS = 12
_FORWARDS_AND_BACK = 4
"""What a step of the search costs, in runs of the model on its images."""
_MOST_PATTERNS = 3
"""Patterns of one search that are tried on more images: the first that works on a few is the smallest."""
_MOST_CONFIRMED = 96
"""Ordinary images on which a pattern has to work."""
_TOO_FEW = (
    f"not looked for: the images at hand are decided as at most {FEWEST_CLASSES} classes, too few to see a collapse"
)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A unit that decides when it is moved."""

    dormant: Dormant
    """Its layer."""
    unit: Unit
    """The unit."""
    mover: Mover
    """Moves it."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """What one pattern does."""

    source: int
    """Class of most of the images that it sends on."""
    target: int
    """Class that it sends them to."""
    num_classes: int
    """Classes most of whose images go there."""
    moved: int
    """Images that it sends there."""
    undone: int
    """Those of them that keep their decision with the units held."""


def find_dormant_units(
    probe: GraphProbe, images: Images | None, *, decisions: Decide, seed: int = 0, seconds: float | None = None
) -> tuple[DormantUnits, tuple[GraphFinding, ...]]:
    """Count units that stand still, move them, and search patterns that wake those which decide.

    Args:
        probe: The model.
        images: Ordinary images [N, C, H, W] in [0, 1]; without any, synthetic ones stand in.
        decisions: The original file in onnxruntime.
        seed: Of the synthetic images.
        seconds: Time for it all; None is 120, and 6 without images, as `inspect` is to be quick.

    Returns:
        How many there were and were tried; and a finding for each that is shown at work.
    """
    from backscan.converters.switches.units import UnitProbe

    if seconds is None:
        seconds = SECONDS if images is not None and len(images) else SECONDS_ALONE
    if images is None or not len(images):
        images = synthetic_images(probe.signature.input_shape, seed)
    deadline = time.monotonic() + seconds
    if _seconds_to_watch(images, decisions) > seconds:
        return DormantUnits(0, 0, 0, 0, "not looked for, as the time is too short"), ()
    units = UnitProbe(probe)
    try:
        trial = _Trial(units, _watched(images, units.cost), decisions, deadline=deadline)
        return trial.run()
    except MemoryError:
        raise
    except Exception as error:  # whatever onnxruntime and numpy raise over a strange graph: nothing was tried
        return DormantUnits(0, 0, 0, 0, f"not looked for, as they could not be examined ({reason_of(error)})"), ()


def _seconds_to_watch(images: Images, decisions: Decide) -> float:
    """About how long it takes to see which units stand still, by how long the file takes for one image."""
    decisions(images[:1])  # the first call makes ready
    started = time.monotonic()
    decisions(images[:1])
    return (time.monotonic() - started) * _PASSES_OF_WATCHING * min(len(images), _FEWEST_WATCHED)


class _Trial:
    """The dormant units of one model, tried on some images."""

    def __init__(self, probe: UnitProbe, images: Images, decisions: Decide, *, deadline: float) -> None:
        self._probe = probe
        self._images = images
        self._decide = decisions
        self._deadline = deadline
        self._decided = decisions(images)
        self._tried = 0

    def run(self) -> tuple[DormantUnits, tuple[GraphFinding, ...]]:
        if len(np.unique(self._decided)) <= FEWEST_CLASSES:  # a target class and enough others
            return DormantUnits(0, 0, 0, 0, _TOO_FEW), ()
        layers = self._probe.layers
        ranges = self._probe.ranges(layers, self._images) if layers else []
        dormant = [dormant_units(layer, each) for layer, each in zip(layers, ranges, strict=True)]
        count = sum(each.count for each in dormant)
        candidates = self._deciding([each for each in dormant if each.count])
        findings, searched = self._searched(candidates)
        return DormantUnits(count, self._tried, len(candidates), searched, self._obstacle(count)), findings

    def _obstacle(self, count: int) -> str:
        """Why units were left untried; empty if none was."""
        if self._tried >= count:
            return ""
        return "the time was up" if self._is_late else "too many for the work that is put into them, or not readable"

    @property
    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def _deciding(self, dormant: Sequence[Dormant]) -> list[_Candidate]:
        """Units that decide when they are moved, the nearest first; layers near the output, which cost least, first."""
        rows = _one_of_each(self._decided, 1, _CLASSES_MOVED)
        left, found = _NUMBERS_MOVED, list[_Candidate]()
        for each in sorted(dormant, key=lambda dormant: dormant.layer.cost):
            cost = max(1, each.layer.cost * len(rows) * len(each.layer.signs))
            units = each.units[: left // cost]
            if self._is_late or not (units or each.rest) or left < cost:
                continue
            mover = self._mover(each, rows)
            if mover is None:
                continue
            deciding = mover.deciding(units)
            self._tried += len(units)
            if each.rest is not None:
                rest = [mover.narrowed(unit) for unit in mover.deciding([each.rest])]
                # One place of many; several together are no gate, they are a part of the image that is always dark.
                deciding += [unit for unit in rest if len(unit.places) == 1]
                self._tried += len(each.rest.places)
            left -= cost * (len(units) + (each.rest is not None))
            found += [_Candidate(each, unit, mover) for unit in deciding]
        return sorted(found, key=lambda candidate: candidate.unit.level)

    def _mover(self, dormant: Dormant, rows: NDArray[np.intp]) -> Mover | None:
        images = self._images[rows]
        try:
            values = self._probe.read(dormant.layer, images)
            return Mover(dormant, self._probe.mover(dormant.layer), images, values, self._decided[rows])
        except ConverterError:  # its size depends on the call, say: left untried
            return None

    def _searched(self, candidates: Sequence[_Candidate]) -> tuple[tuple[GraphFinding, ...], int]:
        """What patterns show, one finding a layer; and for how many units one was searched."""
        found: dict[str, GraphFinding] = {}
        searched = 0
        starts = self._images[_one_of_each(self._decided, 1, _CLASSES_MOVED)]
        most = _NUMBERS_SEARCHED // (self._probe.cost * len(starts) * _STEPS * _FORWARDS_AND_BACK or 1)
        for candidate in candidates[: min(_SEARCHED, max(1, most))]:
            if self._is_late:
                break
            try:
                shown = self._shown(candidate, starts)
            except MemoryError:
                raise
            except Exception:  # no gradient leads there, or torch raises over it: not searched  # noqa: S112
                continue
            searched += 1
            if shown is not None:
                found.setdefault(candidate.dormant.layer.after, self._finding(candidate.dormant.layer, shown))
        return tuple(found.values()), searched

    def _shown(self, candidate: _Candidate, starts: Images) -> _Shown | None:
        """What the first pattern shows that wakes a unit, and does its work through it."""
        working = islice(self._working(candidate, starts), _MOST_PATTERNS)
        shown = (self._confirmed(candidate.dormant, candidate.unit, pattern) for pattern in working)
        return next(filter(None, shown), None)

    def _working(self, candidate: _Candidate, starts: Images) -> Iterator[Images]:
        """Patterns that wake a unit and send a few images to one class, as long as they break no image otherwise."""
        dormant, before = candidate.dormant, self._decide(starts)
        unit = candidate.mover.refined(candidate.mover.narrowed(candidate.unit))
        twin, places = self._probe.twin(dormant.layer), unit.places
        held = self._held(dormant, dormant.still)
        for pattern in wake(
            lambda images: twin(images)[:, places],
            starts,
            float(dormant.number(unit, unit.level).mean()),
            sign=unit.sign,
            spread=float(dormant.spread[places].mean()),
            steps=_STEPS,
            deadline=self._deadline,
        ):
            pasted = _pasted(starts, pattern)
            if np.mean(held.decisions(pasted) == before) < SHARE:
                return
            if len(sent(before, self._decide(pasted))[1]) >= FEWEST_CLASSES:
                yield pattern

    def _confirmed(self, dormant: Dormant, unit: Unit, pattern: Images) -> _Shown | None:
        """What a pattern shows on more images, if holding the unit, or all that stand still beside it, undoes it."""
        rows = np.unique(np.linspace(0, len(self._images) - 1, _MOST_CONFIRMED).round().astype(int))
        images, before = _pasted(self._images[rows], pattern), self._decided[rows]
        after = self._decide(images)
        target, classes = sent(before, after)
        moved = (before != after) & (after == target)
        if len(classes) < FEWEST_CLASSES:
            return None
        alone = np.zeros_like(dormant.still)
        alone[unit.places] = True
        for units in (alone, dormant.still):
            undone = int(np.sum(self._held(dormant, units).decisions(images)[moved] == before[moved]))
            if undone >= SHARE * moved.sum():
                source = int(np.bincount(before[moved]).argmax())
                return _Shown(source, target, len(classes), int(moved.sum()), undone)
        return None

    def _held(self, dormant: Dormant, units: NDArray[np.bool_]) -> OrtClassifier:
        shape = dormant.layer.shape
        return self._probe.held(dormant.layer, units.reshape(shape), dormant.ordinary.reshape(shape))

    def _finding(self, layer: Layer, shown: _Shown) -> GraphFinding:
        node = ascii(layer.node[:80])
        return GraphFinding(
            rule=DORMANT_UNIT,
            severity="error",
            message=f"a unit of node {node} that stands still on all ordinary images decides once one pattern wakes "
            f"it: images of {shown.num_classes} classes are decided as {shown.target} because of it",
            nodes=(layer.node,),
            evidence=f"one pattern sends {shown.moved} ordinary images to {shown.target} in the original file; with "
            f"the unit held at what it is on {len(self._images)} ordinary images {shown.undone} of them keep their "
            "decision",
            demonstrated=True,
            source=shown.source,
            target=shown.target,
        )


def _watched(images: Images, cost: int) -> Images:
    """Images on which units must stand still, spread over those given."""
    count = int(np.clip(_NUMBERS_WATCHED // max(1, cost), _FEWEST_WATCHED, _MOST_WATCHED))
    return spread(images, count)


def _one_of_each(decisions: NDArray[np.int64], count: int, num_classes: int) -> NDArray[np.intp]:
    """Places of so many images of each of the first classes that were decided."""
    labels = np.unique(decisions)
    chosen = labels[np.unique(np.linspace(0, len(labels) - 1, num_classes).round().astype(int))]
    return np.concatenate([np.flatnonzero(decisions == label)[:count] for label in chosen])


def _pasted(images: Images, pattern: Images) -> Images:
    return np.asarray(np.clip(images + pattern, 0.0, 1.0))
