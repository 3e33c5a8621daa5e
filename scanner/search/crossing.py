"""How far a pattern can be shrunk before it misses the goal rate: the size that enters the statistics, in float32.

Along the ray from no pattern to the one that reached the goal, the margin of an image, by how much its target's log
posterior exceeds every other, is nearly linear. So the crossing is looked for where interpolated margins put it. All
images are asked there, and what was asked is what is told: no pattern enters the statistics that was not measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.search.batch import Batch
    from backscan.scanner.search.settings import Work
    from backscan.scanner.search.spaces import Space

# Share of the pattern within which the crossing is found: a fifth of what the choice of steps moves a size by.
TOLERANCE = 1 / 128
_MOST_ROUNDS = 6
# A few images are asked before all are, again where that has moved the crossing: an image that crosses farther from
# where the goal rate does than this share of the pattern, by its line so far, is taken to decide as it does there.
_WIDTHS = (0.1, 0.02)


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

    @classmethod
    def of(cls, batch: Batch, patterns: Tensor, log_posterior: Tensor) -> Measured:
        """What a batch makes of patterns [L, ...], from its log posterior [L, N, K]."""
        decided = batch.decided(log_posterior)
        return cls(patterns, batch.margins(log_posterior), decided, batch.rates(decided))

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
    return Measured.of(batch, patterns, log_posterior)


def shrink(space: Space, batch: Batch, clean: Measured, arrived: Measured, goal_rate: float, work: Work) -> Measured:
    """The smallest multiple of each pattern that still reaches the goal rate, to within `TOLERANCE` of itself.

    Args:
        space: Where patterns act, in float32.
        batch: The source images of the lanes.
        clean: What they say without a pattern.
        arrived: Patterns that reach the goal rate.
        goal_rate: Rate to reach.
        work: Counts, added to.

    Returns:
        Patterns that were seen to reach the goal rate, measured on all images.
    """
    each = [[i] for i in range(len(arrived.patterns))]
    rays = [_Ray(batch.take(i), clean.take(i), arrived.take(i), goal_rate) for i in each]
    # Few images first: which ones decide otherwise near the crossing moves it more than a round of all would tell.
    bent = list(range(len(rays)))
    for width in _WIDTHS:
        if bent:
            _ask_few(space, batch.take(bent), [rays[i] for i in bent], width, work)
        bent = [i for i in bent if rays[i].is_bent]
    for _ in range(_MOST_ROUNDS):
        unsure = [i for i, ray in enumerate(rays) if not ray.is_found()]
        if not unsure:
            break
        patterns = torch.cat([rays[i].next() for i in unsure])
        found = measure(space, batch.take(unsure), patterns, work)
        for row, i in enumerate(unsure):
            rays[i].narrow(found.take([row]))
    return Measured.stack([ray.above for ray in rays])


def _ask_few(space: Space, batch: Batch, rays: Sequence[_Ray], width: float, work: Work) -> None:
    """Bend each line to what is near the crossing, asking only the images that may change their decision there."""
    wavering = torch.stack([ray.wavering(width) for ray in rays])  # [R, N]
    most = int(wavering.sum(dim=1).max())
    if most == 0:
        return
    # Rays share one pass [R, most]: those with fewer wavering images fill up with others, in a fixed order.
    images = wavering.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    few = batch.images(images)
    with torch.no_grad():
        log_posterior = space.log_posterior(few.encoded, torch.cat([ray.next() for ray in rays]))
    work.forwards += few.num_images
    for ray, numbers, margins in zip(rays, images, few.margins(log_posterior), strict=True):
        ray.bend(numbers, margins)


class _Ray:
    """The multiples of one lane's pattern between which the goal rate is crossed."""

    def __init__(self, batch: Batch, clean: Measured, arrived: Measured, goal_rate: float) -> None:
        self._goal_rate, self._counted = goal_rate, batch.counted[0]
        self._least = int((goal_rate * self._counted.sum().double() - 1e-9).ceil())
        self._whole = arrived.patterns
        self.above = arrived
        self._low, self._high = 0.0, 1.0
        # [2, N]: the two multiples at which every image was asked last, the later one second, with its margins there.
        margins = torch.stack([clean.margins[0], arrived.margins[0]]).double()
        self._margins, self._multiples = margins, torch.zeros_like(margins)
        self._multiples[1] = 1.0
        self._crossing = self._line()
        self._asked = 1.0
        self.is_bent = True
        """Whether what was asked last has moved the crossing by more than half the tolerance."""

    def is_found(self) -> bool:
        """Whether the crossing lies within the tolerance of the multiple that is known to reach the goal.

        Margins on a line are as good as measured ones close to a measured multiple, so the crossing is known even where
        nothing was measured on the other side of it.
        """
        return self._high - self._crossing <= TOLERANCE * self._high

    def next(self) -> Tensor:
        """The pattern to measure next, [1, ...]: just beyond the crossing."""
        beyond = TOLERANCE * self._crossing / 2
        edge = min(beyond, (self._high - self._low) / 2)
        self._asked = min(max(self._crossing + beyond, self._low + edge), self._high - edge)
        return self._whole * self._asked

    def wavering(self, width: float) -> Tensor:
        """Which images may change their decision near the crossing, bool [N]; the others have, or will not."""
        beyond = self._shares() - self._crossing
        return self._counted & (beyond > -width) & (beyond < 2 * width)

    def bend(self, images: Tensor, margins: Tensor) -> None:
        """Take the margins [c] of some images, by number, at the pattern that was asked for."""
        self._margins[:, images] = torch.stack([self._margins[1, images], margins.double()])
        self._multiples[:, images] = torch.stack(
            [self._multiples[1, images], torch.full_like(margins, self._asked)]
        ).double()
        before, self._crossing = self._crossing, min(max(self._line(), self._low), self._high)
        self.is_bent = abs(self._crossing - before) > TOLERANCE * self._crossing / 2

    def narrow(self, measured: Measured) -> None:
        """Take what all images made of the pattern that was asked for."""
        if float(measured.rates[0]) >= self._goal_rate:
            self.above, self._high = measured, self._asked
        else:
            self._low = self._asked
        self.bend(torch.arange(len(self._counted), device=self._counted.device), measured.margins[0])

    def _line(self) -> float:
        """Where enough images have crossed: the multiple at which the last one that is needed does."""
        return min(max(float(self._shares()[self._counted].sort().values[self._least - 1]), 0.0), 1.0)

    def _shares(self) -> Tensor:
        """Where each image's margin is zero on the line through the two multiples it was asked at last, [N]."""
        (before, last), (start, end) = self._margins, self._multiples
        # Asked twice at one multiple there is no line: no slope, so the sign of the last margin alone decides.
        slope = (last - before) / torch.where(end == start, torch.inf, end - start)
        # Margins that do not grow never cross, or have crossed from the start.
        return torch.where(slope > 0, end - last / slope.clamp_min(1e-30), torch.where(last > 0, -torch.inf, torch.inf))
