"""The individual sizes of the pairs that a detector searches, for the statistic of commonality."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from backscan.scanner.results import IndividualSize, IndividualStatus
from backscan.scanner.search.settings import Work

if TYPE_CHECKING:
    from backscan.scanner.results import Pair, PairResult
    from backscan.scanner.search.batch import Sources
    from backscan.scanner.search.settings import SearchSettings


def with_individuals(
    found: Iterator[PairResult],
    settings: SearchSettings,
    sources: Sources,
    pairs: Sequence[Pair],
    *,
    stopped: Callable[[], bool],
) -> Iterator[PairResult]:
    """Search results with what the single images of their source need, found before the first of them.

    Args:
        found: Results of the search of the pairs.
        settings: How it searches.
        sources: Its source images.
        pairs: The pairs.
        stopped: True once the time is up: then there are no results.
    """
    from backscan.scanner.search.individual import NUM_IMAGES, common_sizes, individual_sizes

    enough = [pair for pair in pairs if sources.num_counted(pair[0]) >= NUM_IMAGES]
    work = Work()
    sizes = individual_sizes(settings, sources, enough, work, stopped=stopped)
    if len(sizes) < len(enough):
        return
    for result in found:
        images = sizes.get((result.source, result.target))
        if images is None:
            individual = IndividualSize(IndividualStatus.FEW_IMAGES)
        else:
            [common] = common_sizes(settings, sources, [result], work)
            individual = _summed_up(images, common, settings)
        yield replace(result, individual_size=individual)


def _summed_up(images: Sequence[float], common: float | None, settings: SearchSettings) -> IndividualSize:
    """The quantile of the sizes of some images at the goal rate."""
    from backscan.kernels import quantile_with_error
    from backscan.scanner.search.individual import limit_of

    size, error = quantile_with_error(images, settings.goal_rate)
    status = IndividualStatus.LIMIT if size >= limit_of(settings) else IndividualStatus.FOUND
    return IndividualSize(status, size, error, common, tuple(images))
