"""Models with many classes: which pairs are searched when a search of all K(K-1) would take too long.

The size of every pair is estimated to first order from a few images (`first_order`). Searched are the pairs with the
smallest estimates, some for every target and some for every source, so that an attack from one class is found as well
as one from all; and pairs drawn at random, whatever their estimates: only to those is the null fitted, as pairs that
were chosen for being small are no sample of all (`order_test.Screened`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.config import MOST_PAIRS, PRESETS
from backscan.scanner.errors import OptionError

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.results import Pair

# Beyond `MOST_PAIRS` (72 classes) at most a seventh of the pairs is searched; an estimate costs less than a tenth of a
# search. With fewer pairs that saves too little to give up the other statistics and what an estimate does not show.
# Enough for the shape of the null: benchmarks/levels/many_classes.py gives what more would buy.
NUM_DRAWN = 300
"""Pairs that are drawn at random."""
_KEPT_PER_TARGET, _KEPT_PER_SOURCE = 4, 2
# Keeps the draw apart from every other use of the seed.
_PURPOSE, _ORDER = 11, 12


def is_screened(config: ScanConfig, num_classes: int, *, statistic: str) -> bool:
    """Whether only some pairs are searched.

    Args:
        config: Options of the scan.
        num_classes: Classes of the model.
        statistic: The statistic that can judge some of the pairs.

    Raises:
        OptionError: a screen is asked for where there can be none.
    """
    obstacle = _obstacle(config, statistic)
    if config.screen == "on" and obstacle:
        raise OptionError(f"expected {obstacle} with --screen on: change it or leave --screen out")
    wanted = config.screen == "on" or (config.screen == "auto" and has_many(num_classes))
    return wanted and not obstacle


def has_many(num_classes: int) -> bool:
    """Whether a model has more classes than are searched pair by pair."""
    return num_classes * (num_classes - 1) > MOST_PAIRS


def _obstacle(config: ScanConfig, statistic: str) -> str:
    """What a screen needs and the options do not give; empty if they do."""
    # The default gives way to that statistic; one that was asked for does not.
    given_way = (type(config)().statistics, PRESETS["sizes"]["statistics"])
    if statistic not in config.statistics and config.statistics not in given_way:
        return f"--statistic {statistic}"
    if config.step_rule != "unit":
        return "--step-rule unit"
    if config.pairs is not None or config.targets is not None:
        return "no --pairs and no --targets, which are all searched,"
    return ""


def draw(pairs: Sequence[Pair], seed: int) -> set[Pair]:
    """Pairs to which the null is fitted, at random and without regard to anything else."""
    order = np.random.default_rng((seed, _PURPOSE)).permutation(len(pairs))[:NUM_DRAWN]
    return {pairs[index] for index in order}


def shuffled(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """The pairs in an order by the seed: those that a clock leaves time for are then a random sample of all."""
    return [pairs[index] for index in np.random.default_rng((seed, _ORDER)).permutation(len(pairs))]


def num_chosen(num_classes: int, num_sources: int) -> int:
    """Most pairs that estimates choose."""
    return _KEPT_PER_TARGET * num_classes + _KEPT_PER_SOURCE * num_sources


def choose(sizes: Mapping[Pair, float], num_classes: int) -> set[Pair]:
    """The pairs with the smallest estimates: some of every target and some of every source.

    Args:
        sizes: Estimated size of every pair.
        num_classes: Classes of the model.
    """
    matrix = np.full((num_classes, num_classes), np.inf)
    for (source, target), size in sizes.items():
        matrix[source, target] = size
    by_target = matrix.argsort(axis=0, kind="stable")[:_KEPT_PER_TARGET]
    by_source = matrix.argsort(axis=1, kind="stable")[:, :_KEPT_PER_SOURCE]
    chosen = {(int(source), target) for target in range(num_classes) for source in by_target[:, target]}
    chosen |= {(source, int(target)) for source in range(num_classes) for target in by_source[source]}
    return chosen & sizes.keys()


def left_out(num_pairs: int, drawn: set[Pair], chosen: set[Pair]) -> str:
    """What a reader has to know about the pairs that are not searched."""
    num_searched = len(drawn | chosen)
    return (
        f"{num_pairs - num_searched} of {num_pairs} class pairs, which were only estimated: searched were "
        f"{len(chosen - drawn)} with the smallest estimates and {len(drawn)} drawn at random; an attack that the "
        "estimate does not show is missed (--screen off searches all)"
    )
