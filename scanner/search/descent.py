"""The inner loop of Algorithm 1: patterns of several pairs that advance in step with each other.

A step looks at one portion of a pair's source images, the next step at the next, so that every image has its turn at
a fraction of the cost; it may look in reduced precision. Where the portions say that the goal rate is near, all images
are asked in float32: that alone decides whether a pair has arrived, and `crossing` finds where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from backscan.scanner.results import PairResult, PairStatus, Trajectory
from backscan.scanner.search.batch import Batch, clean_posterior
from backscan.scanner.search.crossing import Measured, measure, shrink
from backscan.scanner.search.seeds import generator
from backscan.scanner.search.steps import FEWEST_STEPS, SHORTER

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.results import Pair
    from backscan.scanner.search.batch import Sources
    from backscan.scanner.search.settings import SearchSettings, Work

_MOST_RESTARTS = 6
_STRIDES_UNTIL = 0.25
# A rate of the last few portions this far below the goal may be the goal on all images.
_NEAR = 0.05
_RECENT = 4


@dataclass(slots=True)
class Lane:
    """One pair in work: its step size and every (size, rate) so far."""

    pair: Pair
    step_size: float
    sizes: list[float]
    rates: list[float]
    restarts: int = 0
    asked: int = 0
    """The last step at which all images were asked."""

    @property
    def steps(self) -> int:
        """Steps taken since the last start."""
        return len(self.sizes) - 1

    def end_at(self, size: float, rate: float, goal_rate: float) -> None:
        """Put the crossing in the place of the last step, and of those before it that were beyond the goal already."""
        while self.steps > 1 and self.rates[-2] >= goal_rate:
            del self.sizes[-2], self.rates[-2]
        self.sizes[-1], self.rates[-1] = size, rate

    def restart(self) -> None:
        """Begin again with a shorter step."""
        self.step_size *= SHORTER
        self.restarts += 1
        self.asked = 0
        self.sizes, self.rates = [0.0], self.rates[:1]


class Lanes:
    """The pairs in work and their patterns: lane i of `active` owns row i of `_patterns` [L, ...] and of a batch."""

    def __init__(self, settings: SearchSettings, sources: Sources, pairs: Sequence[Pair], work: Work) -> None:
        self._settings, self._sources, self._work = settings, sources, work
        fewest = sources.fewest_counted([source for source, _ in pairs])
        self._portions = settings.rule.portions_of(fewest)
        self._turn = 0
        self.active: list[Lane] = []
        self._zero = settings.space.zero(sources.encoded[0])
        self._patterns = self._zero[:0]

    @property
    def _is_exact(self) -> bool:
        """Whether every step asks all images in float32 anyway."""
        return self._portions == 1 and self._settings.reduced is None

    def admit(self, pairs: Sequence[Pair]) -> list[PairResult]:
        """Give each pair a lane with a zero pattern (Algorithm 1, line 1); results of those that are there already."""
        results, staying = [], 0
        for pair in pairs:
            rate = float(self._clean(pair).rates[0])
            lane = Lane(pair, self._settings.step_size, [0.0], [rate])
            if rate >= self._settings.goal_rate:
                results.append(self._result(lane, PairStatus.ALREADY_CONFUSED, None, self._zero[0]))
            else:
                self.active.append(lane)
                staying += 1
        start = self._zero.expand(staying, *self._zero.shape[1:])
        self._patterns = torch.cat([self._patterns, start])
        return results

    def advance(self) -> list[PairResult]:
        """Move all lanes by one step, or begin again, or take out those that are done."""
        # Images [L, n, ...]: of the N of each source every `_portions`-th, from another one on at each turn.
        batch = Batch.of(self._pairs(), self._sources, portion=self._turn % self._portions, portions=self._portions)
        self._turn += 1
        space = self._settings.reduced or self._settings.space
        # [L, n, K]: judged first, and the same pass descended afterwards by those that go on.
        log_posterior = space.log_posterior(batch.encoded, self._patterns.requires_grad_())
        decided = batch.decided(log_posterior)
        measured = self._ask(batch, log_posterior.detach(), decided)
        arrived = [i for i, point in measured.items() if float(point.rates[0]) >= self._settings.goal_rate]
        # A crossing after a step or two says more of the step than of the model.
        again = [i for i in arrived if self._too_soon(self.active[i])]
        ended = [i for i, lane in enumerate(self.active) if i in arrived or self._at_limit(lane)]
        done = [i for i in ended if i not in again]
        results = self._finish(done, measured, set(arrived))
        for i in measured.keys() - set(ended):
            self.active[i].asked = self.active[i].steps
        if len(done) + len(again) == len(self.active):  # nobody goes on, so nothing is passed backward
            self._work.forwards += batch.num_images
        else:
            self._work.gradients += batch.num_images
            self._step(batch, log_posterior, decided)
        # Last, as both change what rows mean: lanes that end or restart took the step above in vain.
        self._restart(again)
        self._drop(done)
        return results

    def _pairs(self, indices: Sequence[int] | None = None) -> list[Pair]:
        return [self.active[i].pair for i in (range(len(self.active)) if indices is None else indices)]

    def _clean(self, pair: Pair) -> Measured:
        """What the source images say without a pattern."""
        return Measured.of(Batch.of([pair], self._sources), self._zero, clean_posterior([pair], self._sources))

    def _ask(self, batch: Batch, log_posterior: Tensor, decided: Tensor) -> dict[int, Measured]:
        """Record the rates of this step; all images in float32, of the lanes that may be at the goal or a limit."""
        # A portion's rate is an estimate; the rate at size 0 is known from all images and stays.
        for lane, rate in zip(self.active, batch.rates(decided).tolist(), strict=True):
            lane.rates[lane.steps :] = [lane.rates[0] if lane.steps == 0 else rate]
        patterns = self._patterns.detach()
        if self._is_exact:
            every = Measured.of(batch, patterns, log_posterior)
            return {i: every.take([i]) for i in range(len(self.active))}
        indices = [i for i, lane in enumerate(self.active) if self._is_near(lane) or self._at_limit(lane)]
        if not indices:
            return {}
        found = measure(
            self._settings.space, Batch.of(self._pairs(indices), self._sources), patterns[indices], self._work
        )
        for row, i in enumerate(indices):
            self.active[i].rates[-1] = float(found.rates[row])
        return {i: found.take([row]) for row, i in enumerate(indices)}

    def _is_near(self, lane: Lane) -> bool:
        recent = lane.rates[1:][-min(_RECENT, self._portions) :]
        if not recent:
            return False
        # Asked a step ago all images said no: now only portions that say yes are worth asking them again.
        slack = 0.0 if 0 < lane.asked == lane.steps - 1 else _NEAR
        goal = self._settings.goal_rate
        return sum(recent) / len(recent) >= goal - slack or recent[-1] >= min(1.0, goal + _NEAR)

    def _at_limit(self, lane: Lane) -> bool:
        return lane.sizes[-1] >= self._settings.max_size or lane.steps >= self._settings.max_steps

    def _too_soon(self, lane: Lane) -> bool:
        return self._settings.refine and lane.steps < FEWEST_STEPS and lane.restarts < _MOST_RESTARTS

    def _step(self, batch: Batch, log_posterior: Tensor, decided: Tensor) -> None:
        """Move every lane along its gradient (Algorithm 1, line 3)."""
        log_p, log_rest = batch.split(log_posterior)
        log_weights = self._settings.objective.log_weights(log_p.detach(), log_rest.detach(), decided, batch.counted)
        # Weights relative to the largest are exact even where every posterior saturates.
        peak = log_weights.amax(dim=1, keepdim=True)
        weights = torch.exp(log_weights - peak).nan_to_num(0.0)
        # Losses of lanes add up, and each pattern enters its own alone, so one backward pass keeps them apart.
        (gradient,) = torch.autograd.grad(-(weights * (log_p - log_rest)).sum(), self._patterns)
        # The rule `plain` wants the gradient itself: the mean over those that take part, times what was divided out.
        taking_part = log_weights.isfinite().sum(dim=1).clamp_min(1)
        step = self._unstuck(self._settings.rule.step(-gradient, peak.squeeze(1) - taking_part.log()))
        lengths = torch.tensor(
            [lane.step_size * self._stride(lane) for lane in self.active], dtype=step.dtype, device=step.device
        )
        before = self._patterns.detach()
        moved = before + step * lengths.reshape(-1, *([1] * (step.dim() - 1)))
        self._patterns = self._settings.space.project(moved, Batch.of(self._pairs(), self._sources).encoded)
        for lane, size in zip(self.active, self._settings.norm(self._patterns).tolist(), strict=True):
            lane.sizes.append(size)

    def _stride(self, lane: Lane) -> float:
        """Factor on the step: long ones while hardly an image has moved, where the direction changes little."""
        return self._settings.rule.stride if lane.rates[-1] < _STRIDES_UNTIL * self._settings.goal_rate else 1.0

    def _unstuck(self, step: Tensor) -> Tensor:
        """A random unit direction for lanes whose gradient vanishes or is not finite; the other steps as they are."""
        moves = step.isfinite().flatten(1).all(dim=1) & step.flatten(1).ne(0).any(dim=1)
        for index in (~moves).nonzero().flatten().tolist():
            lane = self.active[index]
            drawn = torch.randn(step.shape[1:], generator=generator(self._settings.seed, *lane.pair, lane.steps))
            direction = drawn.to(step)
            step[index] = direction / direction.norm()
        return step

    def _finish(self, done: list[int], measured: dict[int, Measured], arrived: set[int]) -> list[PairResult]:
        """Results of the lanes that are done, those that arrived shrunk to the crossing."""
        crossed = [i for i in done if i in arrived]
        if crossed and self._settings.refine:
            measured |= self._shrunk(crossed, measured)
        results = []
        for i in done:
            lane, point = self.active[i], measured[i]
            size = float(self._settings.norm(point.patterns))
            if i in arrived:
                lane.end_at(size, float(point.rates[0]), self._settings.goal_rate)
                results.append(self._result(lane, PairStatus.REACHED, size, point.patterns[0]))
            else:
                largest = max(lane.sizes)
                limit = PairStatus.SIZE_LIMIT if largest >= self._settings.max_size else PairStatus.STEP_LIMIT
                results.append(self._result(lane, limit, largest, point.patterns[0]))
        return results

    def _shrunk(self, indices: list[int], measured: dict[int, Measured]) -> dict[int, Measured]:
        """The pattern of each lane made as small as the goal rate allows."""
        pairs = self._pairs(indices)
        found = shrink(
            self._settings.space,
            Batch.of(pairs, self._sources),
            Measured.stack([self._clean(pair) for pair in pairs]),
            Measured.stack([measured[i] for i in indices]),
            self._settings.goal_rate,
            self._work,
        )
        return {i: found.take([row]) for row, i in enumerate(indices)}

    def _result(self, lane: Lane, status: PairStatus, size: float | None, pattern: Tensor) -> PairResult:
        source, target = lane.pair
        return PairResult(
            detector=self._settings.detector,
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

    def _restart(self, again: list[int]) -> None:
        """Send lanes that crossed too soon back to zero with a shorter step."""
        if again:
            self._patterns = self._patterns.detach().clone()
            self._patterns[again] = 0.0
        for index in again:
            self.active[index].restart()

    def _drop(self, done: list[int]) -> None:
        """Take the lanes that are done out of the batch."""
        kept = [i for i in range(len(self.active)) if i not in done]
        self.active = [self.active[i] for i in kept]
        self._patterns = self._patterns.detach()[kept]
