"""Try the switches of one model on images: which of them lie dormant, and what happens when one turns.

A switch is *dormant* when holding its gate at what it is on ordinary images changes nothing on them. It is
*demonstrated* when an image is found on which the decision of the original file depends on the gate: with the gate
held at its ordinary value the same image is decided otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import suppress
from itertools import islice, product
from typing import TYPE_CHECKING, Any

import numpy as np

from backscan.converters.errors import ConverterError, NotDifferentiableError, border
from backscan.scanner.switches.blind import BlindTrial
from backscan.scanner.switches.judging import Demonstration, Judge
from backscan.scanner.switches.leaks import Leaks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.converters import OrtClassifier
    from backscan.converters.switches.flow import Switch
    from backscan.converters.switches.probe import GraphProbe
    from backscan.scanner.switches.judging import Decide

_STARTS = 6
_STILL = 1e-3
"""Range of a value over the images, relative to its size, up to which it stands still."""
_RESTING_SHARE = 0.75
"""Share of the images on which a value rests where it does so on most."""
_BOUNDS = ("Clip", "Max", "Min")
"""Joins behind which a gate may do nothing however much it moves, until it outgrows what it meets."""
_MAX_SHOWN = 8
"""Images of one search that are tried as patterns on others."""
_UNREAD = "what it holds cannot be told image by image"
_CHANGED = 1e-3
"""Change of a pixel from which it belongs to what is pasted on other images."""


class Trial:
    """The switches of one model, tried on some images.

    Args:
        probe: The model.
        switches: Its switches.
        images: Ordinary images [N, C, H, W] in [0, 1].
        decisions: The original file in onnxruntime.
        deadline: When searches give up, on the monotonic clock.
    """

    @border("watching the values of the graph")
    def __init__(
        self,
        probe: GraphProbe,
        switches: Sequence[Switch],
        images: NDArray[np.float32],
        decisions: Decide,
        *,
        deadline: float,
    ) -> None:
        self._probe = probe
        self._images = images
        self._decisions = decisions
        self._deadline = deadline
        # What holds few values for an image can be watched on all images at once; gates are asked for in any case.
        small = list(dict.fromkeys([*probe.small_values(), *(switch.gate for switch in switches)]))
        values = probe.values(small, images)
        self._still = {name for name, array in values.items() if _stands_still(array)}
        self._still |= _still_before(probe, self._still, images)
        self._ordinary = {switch.gate: _typical(values[switch.gate]) for switch in switches if switch.gate in values}
        self._judge = Judge(probe, images, decisions)
        self._blind: dict[tuple[str, ...], BlindTrial] = {}
        resting = {name for name, typical in self._ordinary.items() if _rests(values[name], typical)} | self._still
        self._switches = [
            switch for switch in switches if switch.hard or switch.gate in resting or switch.operator in _BOUNDS
        ]
        self._soft = [switch for switch in switches if not switch.hard and switch.gate in self._ordinary]
        self._leaks = Leaks(probe, self._judge, values, self._ordinary)
        self.obstacles = {switch: _UNREAD for switch in switches if switch.gate not in self._ordinary}
        """Switches that could not be held, and why; `dormant` adds to them."""

    def dormant(self) -> list[Switch]:
        """Switches that can be held without changing any score."""
        holdable = [switch for switch in self._switches if switch.gate in self._ordinary]
        # All together first: where none of them acts, one pass says so.
        with suppress(ConverterError):  # one by one it is seen which of them is to blame
            if self._changes_nothing(holdable):
                return holdable
        return [switch for switch in holdable if self._is_dormant(switch)]

    def demonstrate(self, group: Sequence[Switch], *, steps: int) -> Demonstration | None:
        """Search an image whose decision depends on the gates of a group.

        Args:
            group: Switches that share nodes of their gates.
            steps: Steps of each search: one way and the other, for each gate.

        Returns:
            What the first such image shows; for smooth side paths, which every network with squeeze and excitation
            has, the first whose change of pixels works on other images too.

        Raises:
            ConverterError: no gate of the group could be examined.
        """
        held = self._probe.held(self._constants(group))
        obstacles = list[ConverterError]()
        for switch in group:
            try:
                twin = self._probe.relaxed(switch.gate, self._still).logits
            except NotDifferentiableError:  # flat everywhere
                continue
            except ConverterError as error:
                obstacles.append(error)
                continue
            # Shut gates are opened and open ones closed; the other way too, as some images may lie beyond the gate.
            for starts, way in product(self._starts(switch), (1, -1)):
                sign = way * _way_out(twin, starts)
                for shown in islice(self._search(twin, starts, held, sign, steps), _MAX_SHOWN):
                    if group[0].hard or shown.is_universal:
                        return shown
        if len(obstacles) == len(group):
            raise obstacles[0]
        return None

    @border("watching gates that are awake")
    def leaks(self, dormant: Sequence[Switch]) -> list[Switch]:
        """Soft switches beside the dormant ones that decide no ordinary image and read a part of it alone."""
        return self._leaks.choose([switch for switch in self._soft if switch not in dormant])

    def open_leak(self, group: Sequence[Switch]) -> Demonstration | None:
        """What a filling of the pixels that a group of such switches reads does."""
        return self._leaks.demonstrate(group, self._deadline)

    def _is_dormant(self, switch: Switch) -> bool:
        try:
            return self._changes_nothing([switch])
        except ConverterError as error:
            self.obstacles[switch] = str(error)
            return False

    def blind(self, group: Sequence[Switch]) -> BlindTrial:
        """The same group tried without gradients."""
        constants = self._constants(group)
        key = tuple(constants)
        if key not in self._blind:
            self._blind[key] = BlindTrial(self._probe, self._judge, constants, deadline=self._deadline)
        return self._blind[key]

    @border("holding a gate")
    def _changes_nothing(self, group: Sequence[Switch]) -> bool:
        return self._judge.changes_nothing(self._probe.held(self._constants(group)))

    def _constants(self, group: Sequence[Switch]) -> dict[str, NDArray[Any]]:
        return {switch.gate: self._ordinary[switch.gate] for switch in group}

    def _starts(self, switch: Switch) -> list[NDArray[np.float32]]:
        """Images to search from: together, or one by one for a gate that all images of a call share."""
        _, firsts = np.unique(self._decisions(self._images), return_index=True)  # one of each class, then others
        order = np.concatenate([firsts, np.setdiff1d(np.arange(len(self._images)), firsts)])
        starts = self._images[order[:_STARTS]]
        return [one[None] for one in starts] if self._probe.is_shared(switch.gate) else [starts]

    def _search(
        self, twin: Callable[..., Any], starts: NDArray[np.float32], held: OrtClassifier, sign: int, steps: int
    ) -> Iterator[Demonstration]:
        from backscan.scanner.switches.ascent import search

        def turned(images: NDArray[np.float32]) -> NDArray[np.bool_]:
            return self._judge.turned(images, held)

        for images in search(twin, starts, turned, sign=sign, steps=steps, deadline=self._deadline):
            for start, image in zip(starts, images, strict=True):
                # On its own too: at the very border the rounding depends on the other images of a call.
                if turned(image[None])[0]:
                    pasted = np.where(np.abs(image - start) > _CHANGED, image, self._images)
                    yield self._judge.show(image, pasted, held)
                    break


def _way_out(twin: Callable[..., Any], images: NDArray[np.float32]) -> int:
    """The sign of the way on which a gate leaves where it is on most images: an open one is to be closed."""
    import torch

    with torch.no_grad():
        return -1 if float(twin(torch.from_numpy(images)).median()) > 0 else 1


def _still_before(probe: GraphProbe, still: Set[str], images: NDArray[np.float32]) -> set[str]:
    """Wide values that stand still and lead to narrow ones that do: a pattern searched all over the image is one."""
    found: set[str] = set()
    waiting = still
    while waiting:
        read = [name for name in probe.read_for(waiting) if name not in still | found]
        waiting = (
            {name for name, array in probe.values(read, images).items() if _stands_still(array)} if read else set()
        )
        found |= waiting
    return found


def _stands_still(array: NDArray[Any]) -> bool:
    numbers = array.astype(np.float64)
    return bool(np.ptp(numbers, axis=0).max(initial=0) <= _STILL * max(1.0, float(np.abs(numbers).max(initial=0))))


def _rests(array: NDArray[Any], typical: NDArray[Any]) -> bool:
    """Whether a value stands still on most images, so that it may do nothing although some come near its gate."""
    off = np.abs(array.astype(np.float64) - typical).reshape(len(array), -1).max(axis=1, initial=0)
    return bool(np.mean(off <= _STILL * max(1.0, float(np.abs(typical).max(initial=0)))) >= _RESTING_SHARE)


def _typical(array: NDArray[Any]) -> NDArray[Any]:
    """What a value holds on most images."""
    return np.median(array.astype(np.float64), axis=0).round(12).astype(array.dtype)
