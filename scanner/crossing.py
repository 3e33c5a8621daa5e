"""Where a lane's last step crosses the goal rate, in float32 on all images: the size that enters the statistics.

Along one short step the margin of an image, by how much its target's log posterior exceeds every other, is nearly
linear. So the crossing is looked for where interpolated margins put it, with only those images whose decision differs
between the ends of the step; the pattern found is measured once more on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.batch import Batch
    from backscan.scanner.perturb import Work
    from backscan.scanner.spaces import Space

# A 64th of one step among ten or more leaves the size uncertain by less than 0.2 %.
_TOLERANCE = 1 / 64
_MOST_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Measured:
    """Patterns of some lanes with what all source images make of them in float32."""

    patterns: Tensor
    """[L, ...]."""
    margins: Tensor
    """Log p(t|x) over the largest other, [L, N]."""
    decided: Tensor
    """Whether the image is decided as the target, bool [L, N]."""
    rates: Tensor
    """Group misclassification rates, float64 [L]."""

    def where(self, chosen: Tensor, other: Measured) -> Measured:
        """These lanes, but those that are `chosen` (bool [L]) from `other`."""
        return Measured(*(_choose(chosen, getattr(other, name), getattr(self, name)) for name in self.__slots__))

    @classmethod
    def stack(cls, points: Sequence[Measured]) -> Measured:
        """Several lanes as one."""
        return cls(*(torch.cat([getattr(point, name) for point in points]) for name in cls.__slots__))

    def take(self, indices: list[int]) -> Measured:
        """Some of the lanes."""
        return Measured(*(getattr(self, name)[indices] for name in self.__slots__))


def measure(space: Space, batch: Batch, patterns: Tensor, work: Work) -> Measured:
    """What all images of a batch make of patterns [L, ...]."""
    with torch.no_grad():
        log_posterior = space.log_posterior(batch.encoded, patterns)
    work.forwards += batch.num_images
    decided = batch.decided(log_posterior)
    return Measured(patterns, batch.margins(log_posterior), decided, batch.rates(decided))


@dataclass(frozen=True, slots=True)
class Bracket:
    """Patterns on both sides of the goal rate, for each lane."""

    below: Measured
    """Patterns below the goal rate."""
    above: Measured
    """Patterns at or above it."""
    num_steps: Tensor
    """Steps between them, [L]; 1 where both were measured one after the other."""


def refine(space: Space, batch: Batch, bracket: Bracket, goal_rate: float, work: Work) -> Measured:
    """The crossing of the goal rate between two measured patterns of each lane.

    Args:
        space: Where patterns act, in float32.
        batch: The source images of the lanes.
        bracket: The patterns.
        goal_rate: Rate to cross.
        work: Counts, added to.

    Returns:
        The patterns nearest to `below` that were seen to reach the goal rate, measured on all images.
    """
    interval = _Interval(batch, bracket, goal_rate)
    few = batch.images(interval.changing)
    for _ in range(_MOST_ROUNDS):
        if interval.is_narrow():
            break
        with torch.no_grad():
            log_posterior = space.log_posterior(few.encoded, interval.at(interval.guess()))
        work.forwards += few.num_images
        interval.narrow(few.decided(log_posterior), few.margins(log_posterior))
    found = measure(space, batch, interval.at(interval.high), work)
    missed = found.rates < goal_rate
    # An image that changed its mind twice within one step: what is known to reach the goal stays.
    return found.where(missed, bracket.above) if bool(missed.any()) else found


class _Interval:
    """Shares of the way between which each lane crosses, and the margins of the changing images there."""

    def __init__(self, batch: Batch, bracket: Bracket, goal_rate: float) -> None:
        below, above = bracket.below, bracket.above
        self._below, self._above = below, above
        self._tolerance = _TOLERANCE / bracket.num_steps.double()
        differs = (below.decided != above.decided) & batch.counted
        most = int(differs.sum(dim=1).max())
        self.changing = differs.int().argsort(dim=1, descending=True, stable=True)[:, :most]
        """Images whose decision differs, padded with others, [L, c]."""
        self._differs = differs.gather(1, self.changing)
        always = (below.decided & above.decided & batch.counted).sum(dim=1)
        # The comparison of rates with the goal, in whole images.
        self._missing = (goal_rate * batch.counted.sum(dim=1).double() - 1e-9).ceil() - always
        self.low = torch.zeros(len(always), dtype=torch.float64, device=always.device)
        self.high = torch.ones_like(self.low)
        self._low_margins, self._high_margins = (
            side.margins.gather(1, self.changing).double() for side in (below, above)
        )
        self._asked = self.high

    def is_narrow(self) -> bool:
        return bool((self.high - self.low <= self._tolerance * 1.01).all())

    def at(self, shares: Tensor) -> Tensor:
        """Patterns at shares [L] of the way."""
        return torch.lerp(self._below.patterns, self._above.patterns, _like(shares, self._above.patterns))

    def guess(self) -> Tensor:
        """Shares to try next, [L]: just beyond the interpolated crossing, or just before it once that reached."""
        width = self.high - self.low
        rise = self._high_margins - self._low_margins
        places = torch.where(self._differs & (rise > 0), -self._low_margins / rise.clamp_min(1e-30), 2.0)
        order = places.sort(dim=1).values
        wanted = (self._missing.long() - 1).clamp(0, order.shape[1] - 1)
        crossing = self.low + width * order.gather(1, wanted.unsqueeze(1)).squeeze(1).clamp(0.0, 1.0)
        offset = torch.where(self.high < 1.0, -self._tolerance / 2, self._tolerance / 2)
        edge = torch.minimum(width / 2, self._tolerance)
        self._asked = (crossing + offset).clamp(self.low + edge, self.high - edge)
        return self._asked

    def narrow(self, decided: Tensor, margins: Tensor) -> None:
        """Take the answers [L, c] at the shares asked for."""
        reached = (decided & self._differs).sum(dim=1) >= self._missing
        self.high = torch.where(reached, self._asked, self.high)
        self.low = torch.where(reached, self.low, self._asked)
        self._high_margins = _choose(reached, margins.double(), self._high_margins)
        self._low_margins = _choose(~reached, margins.double(), self._low_margins)


def _choose(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Rows of `yes` where `chosen` [L], of `no` elsewhere."""
    return torch.where(_like(chosen, yes), yes, no)


def _like(values: Tensor, other: Tensor) -> Tensor:
    """`values` [L] with the axes and, for numbers, the type of `other`, for broadcasting."""
    shaped = values.reshape(-1, *([1] * (other.dim() - 1)))
    return shaped if values.dtype == torch.bool else shaped.to(other.dtype)
