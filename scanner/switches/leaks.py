"""Soft gates that do not quite stand still: whoever adds a little of the image to a gate hides how it rests.

What such a gate adds to ordinary images changes no decision, and is nothing beside what it adds when it opens. Narrow
paths of ordinary networks read all of the image; so only those are tried that read a part of it, and a filling of that
part must send the gate far beyond all that it holds on ordinary images.
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
        self._beyond = {
            gate: _TIMES * float(distances(values[gate], middle).max(initial=0.0)) for gate, middle in middles.items()
        }

    def choose(self, switches: Sequence[Switch]) -> list[Switch]:
        """Those of some switches that read a part of the image and decide no ordinary image."""
        gates = list(dict.fromkeys(switch.gate for switch in switches if not self._probe.is_shared(switch.gate)))
        if not gates:
            return []
        moved = moved_blocks(lambda images: self._held_by(gates, images), self._judge.images[0]).mean(axis=1)
        partial = [gate for gate, share in zip(gates, moved, strict=True) if 0 < share <= _MOST_OF_IMAGE]
        chosen = {gate for gate in partial if self._is_idle(gate)}
        return [switch for switch in switches if switch.gate in chosen]

    def demonstrate(self, group: Sequence[Switch], deadline: float) -> Demonstration | None:
        """What a filling of the pixels that a group of gates reads does, if it sends images of all classes to one."""
        held = {switch.gate: self._middles[switch.gate] for switch in group}
        blind = BlindTrial(self._probe, self._judge, held, deadline=deadline, beyond=self._beyond)
        return next((shown for shown in blind.demonstrate() if shown.is_universal), None)

    def _held_by(self, gates: Sequence[str], images: NDArray[np.float32]) -> list[NDArray[Any]]:
        found = self._probe.values(gates, images)
        return [found[gate] for gate in gates]

    def _is_idle(self, gate: str) -> bool:
        try:
            changed, _ = self._judge.sends(self._probe.held({gate: self._middles[gate]}))
        except ConverterError:  # it cannot be held, so that nothing can be shown
            return False
        return changed <= (1 - _LEAST_UNCHANGED) * len(self._judge.images)
