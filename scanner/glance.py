"""A short look at a class pair: its size estimated from a few images and a few long steps, for `screen`.

All pairs move the same number of steps, so there is nothing to keep account of: after each step the margin of the
image that would make the goal rate is noted, and the size is where the line through the first and the last margin
crosses zero, or where it was crossed. The estimate ranks pairs; no size of it enters any statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from backscan.scanner.batch import Batch
from backscan.scanner.steps import unit_step

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.batch import Pair, Sources
    from backscan.scanner.objectives import Objective
    from backscan.scanner.spaces import Space

NUM_IMAGES = 5
"""Images of a source class, the first of those it is searched with."""
NUM_STEPS = 3
"""Steps of a look."""
# Of pairs that do not come nearer to the target; finite, as journals hold no infinity.
FARTHEST = 1e9


@dataclass(frozen=True, slots=True)
class Glance:
    """How pairs are looked at."""

    space: Space
    """Where patterns act."""
    objective: Objective
    """Surrogate that is descended."""
    length: float
    """Length of a step."""
    goal_rate: float
    """Rate at which a pair is done (pi)."""
    norm: Callable[[Tensor], Tensor]
    """Size of patterns, [P, ...] -> [P]."""
    lanes: int
    """Pairs that share a pass through the model."""
    threads: int = 1
    """Passes beside each other; they do not change the result."""

    def run(self, sources: Sources, pairs: Sequence[Pair], *, stopped: Callable[[], bool]) -> list[float]:
        """Estimated size of every pair in their order; shorter if the time was up."""
        groups = [pairs[start : start + self.lanes] for start in range(0, len(pairs), self.lanes)]

        def look(group: Sequence[Pair]) -> list[float]:
            return [] if stopped() else self._sizes(Batch.of(group, sources))

        with ThreadPoolExecutor(self.threads) as pool:
            found = list(pool.map(look, groups))
        return [size for group in found for size in group] if all(found) else []

    def _sizes(self, batch: Batch) -> list[float]:
        """Estimated sizes of one batch."""
        points = batch.encoded
        patterns = torch.zeros((len(points), *points.shape[2:]), dtype=points.dtype, device=points.device)
        sizes, margins = [self.norm(patterns).double()], []
        for step in range(NUM_STEPS + 1):
            last = step == NUM_STEPS
            with torch.set_grad_enabled(not last):
                log_posterior = self.space.log_posterior(points, patterns.requires_grad_(not last))
            margins.append(self._margin_at_goal(batch, log_posterior.detach()))
            if not last:
                patterns = self._moved(batch, log_posterior, patterns)
                sizes.append(self.norm(patterns).double())
        return _crossings(torch.stack(sizes), torch.stack(margins)).clamp(0.0, FARTHEST).tolist()

    def _margin_at_goal(self, batch: Batch, log_posterior: Tensor) -> Tensor:
        """Margin of the image with which the goal rate is reached, [P]."""
        margins = batch.margins(log_posterior).double().masked_fill(~batch.counted, float("-inf"))
        needed = (self.goal_rate * batch.counted.sum(dim=1).double() - 1e-9).ceil().long().clamp_min(1)
        return margins.sort(dim=1, descending=True).values.gather(1, needed.unsqueeze(1) - 1).squeeze(1)

    def _moved(self, batch: Batch, log_posterior: Tensor, patterns: Tensor) -> Tensor:
        """The patterns one step on."""
        log_p, log_rest = batch.split(log_posterior)
        decided = batch.decided(log_posterior.detach())
        log_weights = self.objective.log_weights(log_p.detach(), log_rest.detach(), decided, batch.counted)
        peak = log_weights.amax(dim=1, keepdim=True)
        weights = torch.exp(log_weights - peak).nan_to_num(0.0)
        (gradient,) = torch.autograd.grad(-(weights * (log_p - log_rest)).sum(), patterns)
        step = unit_step(-gradient, peak.squeeze(1)).nan_to_num(0.0)
        return self.space.project(patterns.detach() + self.length * step, batch.encoded)


def _crossings(sizes: Tensor, margins: Tensor) -> Tensor:
    """Where margins [T, P] cross zero for the first time, or would at the pace of all steps, in sizes [T, P]."""
    rise = margins[-1] - margins[0]
    ahead = torch.where(rise > 0.0, -margins[0] * sizes[-1] / rise.clamp_min(1e-30), FARTHEST)
    found = ahead.nan_to_num(FARTHEST, posinf=FARTHEST)
    for step in range(len(sizes) - 1, 0, -1):
        below, above = margins[step - 1], margins[step]
        crosses = (below < 0.0) & (above >= 0.0)
        share = (-below / (above - below).clamp_min(1e-30)).clamp(0.0, 1.0).nan_to_num(1.0)
        found = torch.where(crosses, sizes[step - 1] + share * (sizes[step] - sizes[step - 1]), found)
    return torch.where(margins[0] >= 0.0, 0.0, found)
