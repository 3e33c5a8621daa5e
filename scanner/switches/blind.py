"""Try gates without a gradient: fill the pixels that they read, and hold them at values that they are not at.

Holding needs no image: a path that is still on ordinary images and would decide them all if it held something else
is worth a warning, whether or not an image is found on which it does. Ordinary networks have narrow paths too, with
ranges of their own; so a path that reads much of the image is held only at what it was seen to be on wild images, and
powers of ten are kept for paths that read a few pixels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from backscan.scanner.switches.wild import filled, fillings, pixels_read, wild_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.converters.switches.probe import GraphProbe
    from backscan.scanner.switches.judging import Demonstration, Judge

    Held = dict[str, NDArray[Any]]

_MOST_TRIED = 6
"""Images, and values, that are tried for a gate: those on which it is farthest from where it ordinarily is."""
_CHUNK = 32
_MOST_ELEMENTS = 16
"""Numbers of a gate up to which each is moved by itself; beyond, some directions at random."""
_POWERS = tuple(sign * 10.0**power for power in (6, 3, 1) for sign in (1, -1))
_LEAST_CHANGED = 0.5
"""Share of the ordinary images whose decision must change where a gate is held at another value."""
_FEWEST_CHANGED = 3


@dataclass(frozen=True, slots=True)
class Forced:
    """What holding a gate at another value does to ordinary images."""

    gate: str
    """The gate."""
    changed: int
    """Images decided otherwise."""
    target: int
    """Class that most of those go to."""


class BlindTrial:
    """The gates of dormant switches that share nodes.

    Args:
        probe: The model.
        judge: Judges images and held gates.
        ordinary: What the gates hold on ordinary images.
        deadline: When to give up, on the monotonic clock.
        beyond: Gate -> how far it must be from there to count as turned; without it anywhere else counts.
    """

    def __init__(
        self,
        probe: GraphProbe,
        judge: Judge,
        ordinary: Held,
        *,
        deadline: float,
        beyond: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self._beyond = beyond
        self._deadline = deadline
        self._probe = probe
        self._judge = judge
        self._ordinary = ordinary
        self._gates = list(ordinary)
        self._shared = any(probe.is_shared(gate) for gate in ordinary)
        watched = probe.flow.forming_values(self._gates)
        names = dict.fromkeys((*watched, *self._gates))
        self._shapes = {name: array.shape[1:] for name, array in probe.values(list(names), judge.images).items()}
        read = pixels_read(lambda images: self._values(watched, images), judge.images[0]) if watched else None
        self._patches = None if read is None else fillings(read, len(judge.images[0]))
        self._read = read

    def demonstrate(self) -> Iterator[Demonstration]:
        """What images show on which the pixels that the gates read are filled, one for each that turns them."""
        if self._read is None or self._patches is None:
            return
        held = self._probe.held(self._ordinary)
        for patch in self._farthest(self._patches):
            if time.monotonic() > self._deadline:
                return
            pasted = self._judge.images.copy()
            pasted[:, :, self._read] = patch
            turned = self._turned(pasted, held)
            if turned.any():
                yield self._judge.show(pasted[int(turned.argmax())], pasted, held)

    def force(self) -> Forced | None:
        """What the gates do to ordinary images when one of them is held at another value."""
        hold = self._probe.holder(self._ordinary)
        for gate, value in self._other_values():
            if time.monotonic() > self._deadline:
                break
            changed, target = self._judge.sends(hold(self._ordinary | {gate: value}))
            if changed >= max(_FEWEST_CHANGED, _LEAST_CHANGED * len(self._judge.images)):
                return Forced(gate, changed, target)
        return None

    def _turned(self, images: NDArray[np.float32], held: Any) -> NDArray[np.bool_]:
        parts = [image[None] for image in images] if self._shared else [images]
        return np.concatenate([self._judge.turned(part, held) for part in parts])

    def _values(self, names: Sequence[str], images: NDArray[np.float32]) -> list[NDArray[Any]]:
        """What values hold, one that is shared for one image at a time; not a number where its size changes."""
        parts = [image[None] for image in images] if self._shared else [images]
        runs = [self._probe.values(names, part) for part in parts]
        return [
            np.concatenate([self._as_known(name, run, part) for run, part in zip(runs, parts, strict=True)])
            for name in names
            if name in self._shapes
        ]

    def _as_known(self, name: str, run: Held, images: NDArray[np.float32]) -> NDArray[Any]:
        shape = (len(images), *self._shapes[name])
        found = run.get(name)
        return np.full(shape, np.nan, np.float32) if found is None or found.shape != shape else found

    def _seen(self, gates: Sequence[str]) -> list[NDArray[Any]]:
        """What gates hold on wild images, and with the pixels that they read filled."""
        image = self._judge.images[0]
        runs = [self._values(gates, wild_images(image.shape))]
        if self._read is not None and self._patches is not None:
            for start in range(0, len(self._patches), _CHUNK):
                images = filled(image, self._read, self._patches[start : start + _CHUNK])
                runs.append(self._values(gates, images))
        return [np.concatenate(parts) for parts in zip(*runs, strict=True)]

    def _farthest(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Patches with which the gates are not where they ordinarily are, the farthest first, each place once."""
        distance = np.zeros(len(patches))
        for gate, array in zip(self._gates, self._seen(self._gates), strict=False):
            gap = distances(array[-len(patches) :], self._ordinary[gate])
            distance = np.maximum(distance, np.where(gap >= self._beyond.get(gate, 0.0), gap, 0.0))
        order = [index for index in np.argsort(-distance, kind="stable") if distance[index] > 0]
        _, firsts = np.unique(distance[order], return_index=True)
        return patches[[order[place] for place in np.sort(firsts)[:_MOST_TRIED]]]

    def _other_values(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Gates with values to hold them at: those seen on wild images, and far ones where few pixels are read."""
        for gate in self._gates:
            ordinary = self._ordinary[gate]
            for seen in self._seen([gate]):
                distance = distances(seen, ordinary)
                order = np.argsort(-distance, kind="stable")[:_MOST_TRIED]
                yield from ((gate, seen[index].astype(ordinary.dtype)) for index in order if distance[index] > 0)
            if self._patches is not None and ordinary.dtype.kind == "f":
                yield from ((gate, ordinary + step.astype(ordinary.dtype)) for step in _steps(ordinary))


@np.errstate(invalid="ignore", over="ignore")
def distances(array: NDArray[Any], ordinary: NDArray[Any]) -> NDArray[np.float64]:
    """How far each of some values [N, ...] is from an ordinary one; infinite where it is not finite."""
    gaps = np.abs(array.astype(np.float64) - ordinary.astype(np.float64)).reshape(len(array), -1)
    return np.asarray(np.where(np.isfinite(gaps), gaps, np.inf).max(axis=1, initial=0.0))


def _steps(ordinary: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """Powers of ten along each number of a value, or along directions at random where it has many."""
    if ordinary.size <= _MOST_ELEMENTS:
        directions = np.eye(ordinary.size)
    else:
        directions = np.random.default_rng(0).normal(size=(_MOST_ELEMENTS, ordinary.size))
    for power in _POWERS:
        yield from ((power * direction).reshape(ordinary.shape) for direction in directions)
