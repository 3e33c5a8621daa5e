"""First-order estimates for `screening`: the size of the pattern that each class pair needs, from a few images.

How far an image is from being decided as a target, and how fast that changes along a direction, say where it would
arrive if nothing ever bent. The images of a source pass forward once and backward once per target, which serves all of
its pairs, where a search passes them dozens of times a pair. The estimate ranks pairs; none enters a statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from backscan.scanner.search.batch import Batch
from backscan.scanner.search.effort import LOOK_IMAGES

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.results import Pair
    from backscan.scanner.search.batch import Sources
    from backscan.scanner.search.spaces import Space

NUM_IMAGES = LOOK_IMAGES
"""Images of a source class, the first of those it is searched with."""
# Of pairs that do not come nearer to the target; finite, as journals hold no infinity.
FARTHEST = 1e9


@dataclass(frozen=True, slots=True)
class FirstOrder:
    """How sizes are estimated."""

    space: Space
    """Where patterns act."""
    goal_rate: float
    """Rate at which a pair is done (pi)."""
    norm: Callable[[Tensor], Tensor]
    """Size of patterns, [P, ...] -> [P]."""
    sources_per_pass: int
    """Source classes that share a pass through the model."""
    threads: int = 1
    """Passes beside each other; they do not change the result."""

    def sizes(self, sources: Sources, pairs: Sequence[Pair], *, stopped: Callable[[], bool]) -> list[float]:
        """Estimated size of every pair in their order; none if the time was up."""
        classes, targets = sorted({source for source, _ in pairs}), sorted({target for _, target in pairs})
        groups = [
            classes[start : start + self.sources_per_pass] for start in range(0, len(classes), self.sources_per_pass)
        ]
        sizes: dict[Pair, float] = {}
        with ThreadPoolExecutor(self.threads) as pool:
            for found in pool.map(lambda group: self._from_sources(sources, group, targets, stopped), groups):
                sizes |= found
        return [] if stopped() else [sizes[pair] for pair in pairs]

    def _from_sources(
        self, sources: Sources, group: Sequence[int], targets: Sequence[int], stopped: Callable[[], bool]
    ) -> dict[Pair, float]:
        """Estimated sizes from some sources to all targets."""
        batch = Batch.of([(source, targets[0]) for source in group], sources)
        # A pattern an image, so that each has a gradient of its own.
        points = batch.encoded.flatten(0, 1)
        zero = self.space.zero(points)
        patterns = zero.repeat(len(points), *[1] * (zero.dim() - 1)).requires_grad_()
        log_posterior = self.space.log_posterior(points.unsqueeze(1), patterns).reshape(*batch.counted.shape, -1)
        sizes: dict[Pair, float] = {}
        for target in targets:
            if stopped():
                break
            aimed = replace(batch, targets=torch.full_like(batch.targets, target))
            margins = aimed.margins(log_posterior)
            (gradients,) = torch.autograd.grad(margins.sum(), patterns, retain_graph=True)
            found = self._at_goal(
                margins.detach(), gradients.reshape(*batch.counted.shape, *zero.shape[1:]), batch.counted
            )
            sizes |= {(source, target): size for source, size in zip(group, found.tolist(), strict=True)}
        return sizes

    def _at_goal(self, margins: Tensor, gradients: Tensor, counted: Tensor) -> Tensor:
        """Size of the pattern along the mean gradient at which the goal rate would be reached, float64 [S].

        Args:
            margins: By how much the target exceeds every other class, [S, N].
            gradients: Of the margin of each image, [S, N, ...].
            counted: Images that count, bool [S, N].
        """
        flat = gradients.flatten(2).nan_to_num(0.0)
        total = (flat * counted.unsqueeze(2)).sum(dim=1)
        directions = total / total.double().norm(dim=1, keepdim=True).clamp_min(1e-30).to(total.dtype)
        slopes = (flat * directions.unsqueeze(1)).sum(dim=2).double()
        lengths = torch.where(slopes > 0.0, -margins.double() / slopes.clamp_min(1e-30), FARTHEST).clamp_min(0.0)
        lengths = torch.where(margins >= 0.0, 0.0, lengths).masked_fill(~counted, FARTHEST).nan_to_num(FARTHEST)
        needed = (self.goal_rate * counted.sum(dim=1).double() - 1e-9).ceil().long().clamp_min(1)
        at_goal = lengths.sort(dim=1).values.gather(1, needed.unsqueeze(1) - 1).squeeze(1)
        unit_sizes = self.norm(directions.reshape(len(directions), *gradients.shape[2:])).double()
        return torch.where(at_goal < FARTHEST, at_goal * unit_sizes, FARTHEST).clamp_max(FARTHEST)
