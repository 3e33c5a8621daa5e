"""Which class pairs belong to one attack on many pairs, by how their patterns work on each other's images.

All patterns have one size here. The transfer T of pattern (s, t) to pair (s', t'), s' != s and t' != t, is the share of
images of s' that it sends to t'; two pairs transfer mutually by the lesser of both directions. Pairs that all do form a
clique, which the leading eigenvector of the matrix of mutual transfers shows: the core takes pairs in its order, one
target a source, and is the longest such list of which each pair transfers mutually with the others by 1/2 or more on
average. UMD (ICML 2023) takes the mean of both directions, grows its core greedily and judges sizes by normal tails.

The core is found on one half of the images and tested on the other. An image of a core's source has the share of the
core's patterns that send it to the core's target; a pattern was searched on images of another class than it. Those
shares lie in [0, 1] and are independent, so if their mean is truly at most 1/2 the mean m of n of them is as large
with a chance of at most exp(-2 n (m - 1/2)^2) (Hoeffding 1963), whatever their distribution.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.results import Inference, Pair, TargetResult

Matrix = NDArray[np.float64]

LEAST_TRANSFER = 0.5
"""Share of the other pairs' images that a pair of the core moves at least, on average."""
FEWEST_PAIRS = 4
"""Pairs of a core: natural ones, such as two that close the same gap of a digit, have had up to three."""
FLOOR = 1.0 / 25.0
"""Least calibrated p: one more than the unattacked networks on which cores were looked at, none of which had one."""
_MOST_TOLD = 10


@dataclass(frozen=True, slots=True)
class Core:
    """Pairs whose patterns work on each other's images."""

    pairs: tuple[Pair, ...]
    """The pairs, the first in the order of the eigenvector first; empty if there are too few."""
    transfer: float
    """Mean share of their images that the others' patterns send where their own would, on the half that tests."""
    p_value: float
    """Chance of as large a mean if the true one is at most a half; 1 without a core."""


def find_core(pairs: Sequence[Pair], hits: NDArray[np.int64], counts: NDArray[np.int64]) -> Core:
    """The core of some pairs.

    Args:
        pairs: (source, target) of every pattern.
        hits: Images of each class decided as each class with every pattern, on both halves of the images, [2, P, K, K].
        counts: Images of each class, [2, K].
    """
    sources, targets = np.array(pairs, np.int64).reshape(-1, 2).T
    asked = (sources[:, None] != sources) & (targets[:, None] != targets) & (counts[:, sources] > 0).all(axis=0)
    transfers = hits[:, :, sources, targets] / np.maximum(counts[:, sources], 1)[:, None]  # [2, P, P]
    mutual = np.where(asked & asked.T, np.minimum(transfers[0], transfers[0].T), 0.0)
    places = _clique(sources, mutual, asked & asked.T)
    if len(places) < FEWEST_PAIRS:
        return Core((), 0.0, 1.0)
    among = np.ix_(places, places)
    shares = np.where(asked[among], transfers[1][among], 0.0).sum(axis=0) / asked[among].sum(axis=0)
    number = counts[1, sources[places]]
    mean = float((shares * number).sum() / number.sum())
    p_value = math.exp(-2.0 * float(number.sum()) * max(0.0, mean - LEAST_TRANSFER) ** 2)
    return Core(tuple(pairs[place] for place in places), mean, max(p_value, sys.float_info.min))


def _clique(sources: NDArray[np.int64], mutual: Matrix, asked: NDArray[np.bool_]) -> list[int]:
    """The longest list of pairs, in the order of the leading eigenvector, that all transfer mutually by a half."""
    if not mutual.any():
        return []
    leading = np.abs(np.linalg.eigh(mutual)[1][:, -1])
    best, core, taken = list[int](), list[int](), set[int]()
    for place in np.argsort(-leading, kind="stable").tolist():
        if int(sources[place]) in taken or leading[place] <= 0.0:
            continue
        taken.add(int(sources[place]))
        core.append(place)
        among = np.ix_(core, core)
        number = asked[among].sum(axis=0)
        if (mutual[among].sum(axis=0) >= LEAST_TRANSFER * np.maximum(number, 1)).all():
            best = list(core)
    return best


def infer_many_pairs(
    targets: Sequence[TargetResult], config: ScanConfig, num_classes: int, *, detector: str
) -> Inference:
    """Whether many pairs are attacked at once, and which.

    Args:
        targets: What the patterns that lead to each target do to the images of all classes.
        config: Norm and significance.
        num_classes: Classes K of the model.
        detector: Name in the table of detectors.
    """
    from backscan.scanner.results import MUTUAL_TRANSFER, Inference

    known = [(entry.target, entry.across) for entry in targets if entry.across is not None]
    pairs = [(source, target) for target, across in known for source in across.sources]
    core = p_value = calibrated = None
    if pairs:
        hits = np.concatenate([across.hits.decode() for _, across in known], axis=1).astype(np.int64)
        core = find_core(pairs, hits, np.array(known[0][1].counts))
        p_value, calibrated = core.p_value, max(FLOOR, core.p_value)
    named = core.pairs if core else ()
    detected = bool(named) and calibrated is not None and calibrated <= config.significance
    return Inference(
        detector=detector,
        space="image",
        norm=config.norm,
        statistic=MUTUAL_TRANSFER,
        inference="principal",
        num_pairs=len(pairs),
        values=(),
        null=None,
        source=named[0][0] if named else None,
        target=named[0][1] if named else None,
        p_value=p_value,
        calibrated_p_value=calibrated,
        bootstrap_draws=0,
        detected=detected,
        decides=False,
        abnormal=named,
        remarks=(_told(core, num_classes),) if core else ("no pair has a pattern to try on the others",),
    )


def _told(core: Core, num_classes: int) -> str:
    """The core as a clause."""
    if not core.pairs:
        return f"no {FEWEST_PAIRS} class pairs whose patterns work on each other's images"
    named = ", ".join(f"{source} to {target}" for source, target in sorted(core.pairs)[:_MOST_TOLD])
    more = " and so on" if len(core.pairs) > _MOST_TOLD else ""
    sources, targets = ({pair[end] for pair in core.pairs} for end in (0, 1))
    kind = "all to all" if len(sources) == len(targets) == num_classes else f"of {len(core.pairs)} class pairs at once"
    return (
        f"an attack {kind} ({named}{more}): the pattern of each moves {core.transfer:.0%} of the others' images where "
        "theirs does"
    )
