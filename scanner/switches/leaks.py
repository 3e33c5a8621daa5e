"""Soft gates that do not stand still: whoever adds a little of the image to a gate hides how it rests.

What such a gate adds to ordinary images is nothing, or changes no decision and is small beside what it adds when it
opens. Narrow paths of ordinary networks read all of the image; so only those are tried that read a part of it, and a
filling of that part must send the gate far beyond all that it holds on ordinary images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from backscan.converters.errors import ConverterError
from backscan.scanner.switches.blind import BlindTrial, distances
from backscan.scanner.switches.wild import moved_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.converters.switches.flow import Switch
    from backscan.converters.switches.probe import GraphProbe
    from backscan.scanner.switches.judging import Demonstration, Judge

_LEAST_UNCHANGED = 0.9
"""Share of the ordinary images that are decided the same where such a gate is held."""
_MOST_OF_IMAGE = 0.5
_TIMES = 30.0
"""How many times as far from its middle a gate must go as on any ordinary image."""


class Leaks:
    """The soft gates of a model that are awake on ordinary images.

    Args:
        probe: The model.
        judge: Judges images and held gates.
        values: Gate -> what it holds on each ordinary image, [N, ...].
        middles: Gate -> what it holds on most of them.
    """

    def __init__(
        self,
        probe: GraphProbe,
        judge: Judge,
        values: dict[str, NDArray[Any]],
        middles: dict[str, NDArray[Any]],
    ) -> None:
        self._probe = probe
        self._judge = judge
        self._middles = middles
        self._values = values
        self._beyond: dict[str, float] = {}

    def choose(self, switches: Sequence[Switch]) -> list[Switch]:
        """Those of some switches that read a part of the image and decide no ordinary image."""
        gates = list(dict.fromkeys(switch.gate for switch in switches))
        if not gates:
            return []
        moved = moved_blocks(lambda images: self._hold_now(gates, images), self._judge.images[0]).mean(axis=1)
        for gate, share in zip(gates, moved, strict=True):
            least = self._least_distance(gate) if 0 < share <= _MOST_OF_IMAGE else None
            if least is not None:
                self._beyond[gate] = least
        return [switch for switch in switches if switch.gate in self._beyond]

    def demonstrate(self, group: Sequence[Switch], deadline: float) -> Demonstration | None:
        """What a filling of the pixels that a group of gates reads does, if it sends images of all classes to one."""
        held = {switch.gate: self._middles[switch.gate] for switch in group}
        blind = BlindTrial(self._probe, self._judge, held, deadline=deadline, beyond=self._beyond)
        return next((shown for shown in blind.demonstrate() if shown.is_universal), None)

    def _hold_now(self, gates: Sequence[str], images: NDArray[np.float32]) -> list[NDArray[Any]]:
        """What gates hold for each of some images; those that are one for all images of a call, for each alone."""
        shared = any(self._probe.is_shared(gate) for gate in gates)
        runs = [self._probe.values(gates, part) for part in (images[:, None] if shared else [images])]
        return [np.concatenate([run[gate] for run in runs]) for gate in gates]

    def _least_distance(self, gate: str) -> float | None:
        """How far a gate must go from its middle to count as turned; None if it decides ordinary images."""
        try:
            held = self._probe.held({gate: self._middles[gate]})
            if self._judge.changes_nothing(held):
                return 0.0
            changed, _ = self._judge.sends(held)
        except ConverterError:  # it cannot be held, so that nothing can be shown
            return None
        if changed > (1 - _LEAST_UNCHANGED) * len(self._judge.images):
            return None
        return _TIMES * float(distances(self._values[gate], self._middles[gate]).max(initial=0.0))
