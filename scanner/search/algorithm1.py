"""Algorithm 1 on many class pairs at once: the smallest common pattern that sends a source class to a target.

Every pair in work has a lane (`lanes.py`). One forward pass of all lanes gives their rates and their gradients; a
lane that reaches the goal leaves at once and the next pair takes its place. What the source images say without a
pattern is computed once for all targets. On a CPU small groups of lanes run in
threads beside each other, which scales better than threads within an operator; a GPU takes one large group.
Batched arithmetic rounds by what shares the batch, so lanes and groups follow from data and device alone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backscan.scanner.search.batch import Pair, Sources
from backscan.scanner.search.descent import Lanes

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.results import PairResult
    from backscan.scanner.search.objectives import Objective
    from backscan.scanner.search.spaces import Space
    from backscan.scanner.search.steps import StepRule

__all__ = ["Pair", "Search", "Sources", "Work"]


@dataclass(slots=True)
class Work:
    """Deterministic counts of what a search cost."""

    gradients: int = 0
    """Images passed forward and backward."""
    forwards: int = 0
    """Images passed forward only."""

    def add(self, other: Work) -> None:
        """Count what another search did as well."""
        self.gradients += other.gradients
        self.forwards += other.forwards


@dataclass(frozen=True, slots=True)
class Search:
    """Settings of Algorithm 1."""

    space: Space
    """Where patterns act, in float32: whatever enters the statistics is measured here."""
    objective: Objective
    """Surrogate that is descended."""
    rule: StepRule
    """How a gradient becomes a step."""
    norm: Callable[[Tensor], Tensor]
    """Size of patterns, [P, ...] -> [P]."""
    step_size: float
    """Length of a step (delta)."""
    goal_rate: float
    """Rate at which a pair is done (pi)."""
    max_size: float
    """Largest size tried."""
    max_steps: int
    """Largest number of steps a pair."""
    lanes: int
    """Pairs of one group in work at once, sharing each pass through the model."""
    group_size: int
    """Pairs of one group; groups run beside each other in threads."""
    seed: int
    """Seed of the random direction where the gradient vanishes."""
    detector: str = "pairwise"
    """Name that the results carry."""
    threads: int = 1
    """Groups in work at once."""
    refine: bool = True
    """Shrink patterns to the crossing and repeat pairs that cross too soon; off in pilots."""
    draft: Space | None = None
    """The same in reduced precision, for the steps; None takes them in `space`."""

    def run(
        self,
        sources: Sources,
        pairs: Sequence[Pair],
        work: Work,
        *,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Iterator[PairResult]:
        """Search every pair; results come as they finish.

        Args:
            sources: Source images; every pair's source must have a row.
            pairs: (source, target) pairs.
            work: Counts, added to.
            stopped: Asked before every step; once true, unfinished pairs are dropped.
        """
        # Groups are fixed by the pairs alone, so that results do not depend on the number of threads.
        groups = [pairs[start : start + self.group_size] for start in range(0, len(pairs), self.group_size)]
        closed = threading.Event()

        def search(group: Sequence[Pair]) -> tuple[list[PairResult], Work]:
            own = Work()
            return list(self._search(sources, group, own, lambda: closed.is_set() or stopped())), own

        with ThreadPoolExecutor(self.threads) as pool:
            try:
                for done in as_completed([pool.submit(search, group) for group in groups]):
                    results, own = done.result()
                    work.add(own)
                    yield from results
            finally:
                closed.set()
                pool.shutdown(cancel_futures=True)

    def _search(
        self, sources: Sources, pairs: Sequence[Pair], work: Work, stopped: Callable[[], bool]
    ) -> Iterator[PairResult]:
        """One group: a pair that is done makes room for the next."""
        waiting = deque(pairs)
        lanes = Lanes(self, sources, pairs, work)
        while (waiting or lanes.active) and not stopped():
            yield from lanes.admit(
                [waiting.popleft() for _ in range(min(self.lanes - len(lanes.active), len(waiting)))]
            )
            if lanes.active:
                yield from lanes.advance()
