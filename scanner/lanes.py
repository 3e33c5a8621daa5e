"""The inner loop of Algorithm 1: patterns of several pairs that advance in step with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from backscan.scanner.results import PairResult, PairStatus, Trajectory
from backscan.scanner.steps import FEWEST_STEPS, SHORTER

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.perturb import Pair, Search, Sources, Work

# Six halvings of one step among ten or more leave the size uncertain by less than 0.2 %.
_BISECTIONS = 6
_MOST_RESTARTS = 6


@dataclass(slots=True)
class Lane:
    """One pair in work: its step size and every (size, rate) so far."""

    pair: Pair
    step_size: float
    sizes: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    restarts: int = 0

    @property
    def steps(self) -> int:
        """Steps taken since the last start."""
        return len(self.sizes) - 1

    def restart(self) -> None:
        """Begin again with a shorter step."""
        self.step_size *= SHORTER
        self.restarts += 1
        self.sizes, self.rates = [], []


@dataclass(frozen=True, slots=True)
class Batch:
    """The source images of some lanes and the targets they are to reach."""

    encoded: Tensor
    """Points [P, N, ...]."""
    counted: Tensor
    """Images that count, bool [P, N]."""
    targets: Tensor
    """Target classes, int64 [P]."""

    @classmethod
    def of(cls, lanes: Sequence[Lane], sources: Sources) -> Batch:
        """The batch of `lanes`, in their order."""
        device = sources.encoded.device
        rows = torch.tensor([sources.rows[lane.pair[0]] for lane in lanes], device=device)
        targets = torch.tensor([lane.pair[1] for lane in lanes], device=device)
        return cls(sources.encoded[rows], sources.counted[rows], targets)

    @property
    def num_images(self) -> int:
        """Images in one pass."""
        return self.counted.numel()

    def split(self, log_posterior: Tensor) -> tuple[Tensor, Tensor]:
        """Log p(t|x) and log of the rest 1 - p(t|x), [P, N, K] -> both [P, N]."""
        index = self.targets.reshape(-1, 1, 1).expand(*log_posterior.shape[:2], 1)
        rest = log_posterior.scatter(2, index, float("-inf")).logsumexp(dim=2)
        return log_posterior.gather(2, index).squeeze(2), rest

    def decided(self, log_posterior: Tensor) -> Tensor:
        """Which images are decided as the target, [P, N, K] -> bool [P, N]."""
        return log_posterior.argmax(dim=2) == self.targets.unsqueeze(1)

    def rates(self, decided: Tensor) -> list[float]:
        """Group misclassification rates, Algorithm 1 lines 1 and 4: bool [P, N] -> P floats."""
        counted = self.counted.sum(dim=1).double().clamp_min(1)
        rates: list[float] = ((decided & self.counted).sum(dim=1).double() / counted).tolist()
        return rates


class Lanes:
    """The pairs in work and their patterns."""

    def __init__(self, search: Search, sources: Sources, work: Work) -> None:
        self._search, self._sources, self._work = search, sources, work
        self.active: list[Lane] = []
        points = sources.encoded
        self._zero = torch.zeros((1, *points.shape[2:]), dtype=points.dtype, device=points.device)
        self._patterns = self._previous = self._zero[:0]

    def admit(self, pairs: Sequence[Pair]) -> None:
        """Give each pair a lane with a zero pattern (Algorithm 1, line 1)."""
        if pairs:
            self.active += [Lane(pair, self._search.step_size) for pair in pairs]
            start = self._zero.expand(len(pairs), *self._zero.shape[1:])
            self._patterns = torch.cat([self._patterns, start])
            self._previous = torch.cat([self._previous, start])

    def advance(self) -> list[PairResult]:
        """Measure all lanes, take out those that are done and move the others by one step."""
        batch = Batch.of(self.active, self._sources)
        patterns = self._patterns.requires_grad_()
        log_posterior = self._search.space.log_posterior(batch.encoded, patterns)
        decided = batch.decided(log_posterior)
        self._record(batch.rates(decided))

        arrived = [lane.rates[-1] >= self._search.goal_rate for lane in self.active]
        again = [here and self._too_soon(lane) for here, lane in zip(arrived, self.active, strict=True)]
        done = [
            (here or self._at_limit(lane)) and not repeat
            for lane, here, repeat in zip(self.active, arrived, again, strict=True)
        ]
        results = self._finish(done, arrived)
        if all(end or repeat for end, repeat in zip(done, again, strict=True)):
            self._work.forwards += batch.num_images
        else:
            self._work.gradients += batch.num_images
            self._step(batch, log_posterior, decided)
        self._restart(again)
        self._drop(done)
        return results

    def _record(self, rates: list[float]) -> None:
        sizes = self._search.norm(self._patterns.detach()).tolist()
        for lane, size, rate in zip(self.active, sizes, rates, strict=True):
            lane.sizes.append(size)
            lane.rates.append(rate)

    def _at_limit(self, lane: Lane) -> bool:
        return lane.sizes[-1] >= self._search.max_size or lane.steps >= self._search.max_steps

    def _too_soon(self, lane: Lane) -> bool:
        return self._search.refine and 0 < lane.steps < FEWEST_STEPS and lane.restarts < _MOST_RESTARTS

    def _step(self, batch: Batch, log_posterior: Tensor, decided: Tensor) -> None:
        """Move every lane along its gradient (Algorithm 1, line 3)."""
        log_p, log_rest = batch.split(log_posterior)
        log_weights = self._search.objective.log_weights(log_p.detach(), log_rest.detach(), decided, batch.counted)
        # Weights relative to the largest are exact even where every posterior saturates.
        peak = log_weights.amax(dim=1, keepdim=True)
        weights = torch.exp(log_weights - peak).nan_to_num(0.0)
        (gradient,) = torch.autograd.grad(-(weights * (log_p - log_rest)).sum(), self._patterns)
        taking_part = log_weights.isfinite().sum(dim=1).clamp_min(1)
        step = self._unstuck(self._search.rule.step(-gradient, peak.squeeze(1) - taking_part.log()))
        lengths = torch.tensor([lane.step_size for lane in self.active], dtype=step.dtype, device=step.device)
        self._previous = self._patterns.detach()
        moved = self._previous + step * lengths.reshape(-1, *([1] * (step.dim() - 1)))
        self._patterns = self._search.space.project(moved, batch.encoded)

    def _unstuck(self, step: Tensor) -> Tensor:
        """A random unit direction for lanes whose gradient vanishes or is not finite; the other steps as they are."""
        moves = step.isfinite().flatten(1).all(dim=1) & step.flatten(1).ne(0).any(dim=1)
        for index in (~moves).nonzero().flatten().tolist():
            lane = self.active[index]
            key = np.random.SeedSequence((self._search.seed, *lane.pair, lane.steps))
            generator = torch.Generator().manual_seed(int(key.generate_state(1)[0]))
            direction = torch.randn(step.shape[1:], generator=generator).to(step)
            step[index] = direction / direction.norm()
        return step

    def _finish(self, done: list[bool], arrived: list[bool]) -> list[PairResult]:
        """Results of the lanes that are done, the crossing of those that arrived refined."""
        patterns = self._patterns.detach()
        crossing = [i for i, lane in enumerate(self.active) if done[i] and arrived[i] and lane.steps > 0]
        refined = self._bisect(crossing) if crossing and self._search.refine else {}
        return [
            self._result(lane, arrived[i], refined.get(i, patterns[i])) for i, lane in enumerate(self.active) if done[i]
        ]

    def _bisect(self, indices: list[int]) -> dict[int, Tensor]:
        """Patterns at the crossing of the goal rate, by bisection along each lane's last step."""
        lanes = [self.active[i] for i in indices]
        batch = Batch.of(lanes, self._sources)
        below, above = self._previous.detach()[indices], self._patterns.detach()[indices]
        for _ in range(_BISECTIONS):
            middle = (below + above) / 2
            with torch.no_grad():
                rates = batch.rates(batch.decided(self._search.space.log_posterior(batch.encoded, middle)))
            self._work.forwards += batch.num_images
            for k, (lane, rate) in enumerate(zip(lanes, rates, strict=True)):
                if rate >= self._search.goal_rate:
                    above[k], lane.rates[-1] = middle[k], rate
                else:
                    below[k] = middle[k]
        for lane, size in zip(lanes, self._search.norm(above).tolist(), strict=True):
            lane.sizes[-1] = size
        return dict(zip(indices, above, strict=True))

    def _result(self, lane: Lane, arrived: bool, pattern: Tensor) -> PairResult:
        source, target = lane.pair
        status, size = self._outcome(lane, arrived)
        return PairResult(
            detector=self._search.detector,
            source=source,
            target=target,
            status=status,
            size=size,
            initial_rate=lane.rates[0],
            rate=lane.rates[-1],
            steps=lane.steps,
            trajectory=Trajectory(tuple(lane.sizes), tuple(lane.rates)),
            pattern=pattern.float().cpu().numpy(),
        )

    def _outcome(self, lane: Lane, arrived: bool) -> tuple[PairStatus, float | None]:
        """Status, and the size that enters the statistics: at a limit the largest one tried."""
        if arrived:
            return (PairStatus.REACHED, lane.sizes[-1]) if lane.steps else (PairStatus.ALREADY_CONFUSED, None)
        largest = max(lane.sizes)
        return (PairStatus.SIZE_LIMIT if largest >= self._search.max_size else PairStatus.STEP_LIMIT), largest

    def _restart(self, again: list[bool]) -> None:
        """Send lanes that crossed too soon back to zero with a shorter step."""
        indices = [i for i, repeat in enumerate(again) if repeat]
        if indices:
            self._patterns = self._patterns.detach().clone()
            self._patterns[indices] = 0.0
        for index in indices:
            self.active[index].restart()

    def _drop(self, done: list[bool]) -> None:
        """Take the lanes that are done out of the batch."""
        kept = [i for i, end in enumerate(done) if not end]
        self.active = [self.active[i] for i in kept]
        self._patterns, self._previous = self._patterns.detach()[kept], self._previous.detach()[kept]
