"""Attacks on most classes, each with another target: how many of the largest pairs in a row share no class.

An attack from every class to a target of its own plants pairs of which no two have the same source or the same target,
and none the other way round. Where nobody planted any, pairs that are near share what makes them near: a source that is
near everything, a target that everything is near, two classes that look alike and are near both ways. So a long run of
such pairs among the largest is a sign of that attack, and pairs in any order have a long one less often than the
p-value says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Pairs = tuple[tuple[int, int], ...]

_DRAWS = 9_999


def leading_run(values: Matrix) -> Pairs:
    """The largest pairs up to the first that has a source, a target or both classes of one before it.

    Args:
        values: A value of each (source, target) pair, [K, K]; NaN where there is none.

    Returns:
        (source, target) of each, the largest first; of equal values the pair that comes first.
    """
    places = np.flatnonzero(~np.isnan(values))
    order = places[np.argsort(-values.ravel()[places], kind="stable")]
    return _run(divmod(int(place), values.shape[1]) for place in order)


def run_p_value(length: int, present: NDArray[np.bool_]) -> float:
    """How likely the largest pairs have a run of such a length or more, where any order of them is alike.

    Args:
        length: Pairs of the run.
        present: Which pairs have a value, [K, K].

    Returns:
        By 9,999 simulated orders, at least 1 / 10,000.
    """
    return float(1 + np.count_nonzero(_lengths(present.tobytes(), len(present)) >= length)) / (_DRAWS + 1)


def _run(ordered: Iterable[tuple[int, int]]) -> Pairs:
    found: dict[int, int] = {}
    targets: set[int] = set()
    for source, target in ordered:
        if source in found or target in targets or found.get(target) == source:
            break
        found[source] = target
        targets.add(target)
    return tuple(found.items())


@lru_cache(maxsize=8)
def _lengths(present: bytes, num_classes: int) -> NDArray[np.int64]:
    """Lengths of the run in random orders of the pairs that are present, [draws]."""
    places = np.flatnonzero(np.frombuffer(present, dtype=bool))
    rng = np.random.default_rng(0)
    return np.array([len(_run(_in_random_order(places, num_classes, rng))) for _ in range(_DRAWS)])


def _in_random_order(places: NDArray[np.intp], num_classes: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """All pairs in a random order, drawn as they are asked for."""
    seen = set[int]()
    while len(seen) < len(places):
        for place in places[rng.integers(len(places), size=8)].tolist():
            if place not in seen:
                seen.add(place)
                yield divmod(place, num_classes)
