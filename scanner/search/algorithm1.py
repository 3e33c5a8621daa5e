"""Algorithm 1 of XMK on many class pairs at once: the smallest common pattern that sends a source class to a target.

Every pair in work has a lane (`descent.py`). One forward pass of all lanes gives their rates and their gradients; a
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
from typing import TYPE_CHECKING

from backscan.scanner.search.descent import Lanes
from backscan.scanner.search.settings import Work

if TYPE_CHECKING:
    from backscan.scanner.results import Pair, PairResult
    from backscan.scanner.search.batch import Sources
    from backscan.scanner.search.settings import SearchSettings


def search_pairs(
    settings: SearchSettings,
    sources: Sources,
    pairs: Sequence[Pair],
    work: Work,
    *,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[PairResult]:
    """Search every pair; results come as they finish.

    Args:
        settings: How to search.
        sources: Source images; every pair's source must have a row.
        pairs: (source, target) pairs.
        work: Counts, added to.
        stopped: Asked before every step; once true, unfinished pairs are dropped.
    """
    # Groups are fixed by the pairs alone, so that results do not depend on the number of threads.
    groups = [pairs[start : start + settings.group_size] for start in range(0, len(pairs), settings.group_size)]
    closed = threading.Event()

    def search(group: Sequence[Pair]) -> tuple[list[PairResult], Work]:
        own = Work()
        return list(_search_group(settings, sources, group, own, lambda: closed.is_set() or stopped())), own

    with ThreadPoolExecutor(settings.threads) as pool:
        try:
            for done in as_completed([pool.submit(search, group) for group in groups]):
                results, own = done.result()
                work.add(own)
                yield from results
        finally:
            closed.set()
            pool.shutdown(cancel_futures=True)


def _search_group(
    settings: SearchSettings, sources: Sources, pairs: Sequence[Pair], work: Work, stopped: Callable[[], bool]
) -> Iterator[PairResult]:
    """The loop of Algorithm 1, for the pairs of one group: a pair that is done makes room for the next."""
    waiting = deque(pairs)
    lanes = Lanes(settings, sources, pairs, work)
    while (waiting or lanes.active) and not stopped():
        num_free = min(settings.lanes - len(lanes.active), len(waiting))
        # Line 1: v = 0 and the rate without a pattern, which ends a pair that is at the goal rate already.
        yield from lanes.admit([waiting.popleft() for _ in range(num_free)])
        if lanes.active:
            # Line 4 of the step before, line 2, which ends the pairs at the goal rate, and line 3 for the others: one
            # pass through the model serves the rates of the one and the gradients of the other.
            yield from lanes.advance()
