"""Algorithm 1 on many class pairs at once: the smallest common pattern that sends a source class to a target.

Every pair in work has a lane (`lanes.py`). One forward pass of all lanes gives their rates and their gradients; a
lane that reaches the goal leaves at once and the next pair takes its place. On a CPU small groups of lanes run in
threads beside each other, which scales better than threads within an operator; a GPU takes one large group.
Batched arithmetic rounds by what shares the batch, so lanes and groups follow from data and device alone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from backscan.scanner.lanes import Lanes

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.objectives import Objective
    from backscan.scanner.results import PairResult
    from backscan.scanner.spaces import Space
    from backscan.scanner.steps import StepRule

Pair = tuple[int, int]


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
class Sources:
    """Source images of several classes as points of a space, padded to one length."""

    encoded: Tensor
    """Points [S, N, ...]; padding repeats a row's first image."""
    counted: Tensor
    """True for images that count towards the rate, bool [S, N]."""
    rows: Mapping[int, int]
    """Class -> row."""

    @classmethod
    def gather(
        cls, images_by_class: Mapping[int, Tensor], space: Space, counted_by_class: Mapping[int, Tensor]
    ) -> Sources:
        """Encode and stack the images of every class.

        Args:
            images_by_class: Class -> images [n, C, H, W] in [0, 1], at least one each.
            space: Where patterns act.
            counted_by_class: Class -> which images count towards the rate, bool [n], equation (6).
        """
        longest = max(len(images) for images in images_by_class.values())
        encoded, counted = [], []
        for label, images in images_by_class.items():
            with torch.no_grad():
                points = space.encode(images)
            missing = longest - len(images)
            encoded.append(torch.cat([points, points[:1].expand(missing, *points.shape[1:])]))
            counted.append(torch.nn.functional.pad(counted_by_class[label], (0, missing)))
        return cls(
            torch.stack(encoded), torch.stack(counted), {label: row for row, label in enumerate(images_by_class)}
        )

    def first(self, num_images: int) -> Sources:
        """The same classes with at most `num_images` images each."""
        return replace(self, encoded=self.encoded[:, :num_images], counted=self.counted[:, :num_images])


@dataclass(frozen=True, slots=True)
class Search:
    """Settings of Algorithm 1."""

    space: Space
    """Where patterns act."""
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
    """Bisect the crossing and repeat pairs that cross too soon; off in pilots."""

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
        lanes = Lanes(self, sources, work)
        while (waiting or lanes.active) and not stopped():
            lanes.admit([waiting.popleft() for _ in range(min(self.lanes - len(lanes.active), len(waiting)))])
            yield from lanes.advance()
