"""Few classes judged: by how patterns of single images move others, and by how much shorter a way is than the way back.

Two tests of one detector, that share its threshold.

1. **Expected transferability** (Xiang, Miller & Kesidis, ICLR 2022). On unattacked models it stays below one half at
   the size at which it is measured (`search/transfer.py`), so a pair has p = sf((ET - 1/2) / error).
2. **One way**. What is near is near both ways, a planted pair leads one way. With the size d of the common pattern and
   the size I of what single images need by themselves,

       w_st = log(d_ts / d_st) - log(I_ts / I_st) / 2,

   the mean of how much smaller the common pattern is than the one back and of how much more of it is common, I / d.
   Of unattacked models it is about normal around 0, so a pair has p = sf(w / 0.35).

The least p of all pairs is multiplied by their number. Nothing below the floor can be told: one over the unattacked
networks on which the size of the first test was chosen. What else makes a way shorter than the way back is left to
`doubts`: a boundary that leans, and one class against all the rest.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from backscan.scanner.results.inference import ONE_WAY, TRANSFERABILITY

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.results import Inference, Pair, PairResult, Transfer

Size = TypeVar("Size", float, NDArray[np.float64])

CENTRE = 0.5
"""What two classes that are equally far from each other would have at the size of the way back."""
FLOOR = 1.0 / 45.0
"""Least p of a model: one more than the unattacked networks on which the size was chosen, none of which reached it."""
NATURAL_SPREAD = 0.35
"""Standard deviation of `w` over the pairs of an unattacked network, of those of ten classes that have the largest:
`python -m benchmarks.accuracy.one_way`."""
_LEAST_ERROR = 1e-9


def infer_transfers(
    pairs: Sequence[PairResult], config: ScanConfig, num_classes: int, *, detector: str
) -> tuple[Inference, ...]:
    """What the transferability of all pairs says, and what their ways and ways back say.

    Args:
        pairs: Results of the search.
        config: Norm and significance.
        num_classes: Classes K of the model.
        detector: Name in the table of detectors.

    Returns:
        Two conclusions, each about the pair that stands out most; without a p where nothing could be measured.
    """
    measured = {
        (pair.source, pair.target): pair.transfer
        for pair in pairs
        if pair.status.counts and pair.transfer is not None and pair.transfer.rate is not None
    }
    ways = one_way(pairs)
    of_model: dict[str, Any] = {
        "config": config,
        "num_classes": num_classes,
        "detector": detector,
        "num_tests": max(1, bool(measured) + bool(ways)),
    }
    return (
        _concluded(
            TRANSFERABILITY,
            {place: transfer.rate or 0.0 for place, transfer in measured.items()},
            {place: (p_of(transfer), _way(transfer)) for place, transfer in measured.items()},
            **of_model,
        ),
        _concluded(
            ONE_WAY, ways, {place: (_tail(value / NATURAL_SPREAD), -value) for place, value in ways.items()}, **of_model
        ),
    )


def one_way(pairs: Sequence[PairResult]) -> dict[Pair, float]:
    """How much shorter the way of a pair is than the way back, beyond half of what single images explain: w.

    A way back that ended at a limit counts as that limit, and is no less far; a pair that did not reach its goal has no
    value.

    Args:
        pairs: Results of one search.
    """
    from backscan.scanner.results import PairStatus

    sizes = {(pair.source, pair.target): pair.size for pair in pairs if pair.status.counts and pair.size}
    found = {}
    for pair in pairs:
        size, back = pair.size, sizes.get((pair.target, pair.source))
        own = pair.transfer
        if (
            pair.status is not PairStatus.REACHED
            or own is None
            or not (size and back and own.own_size and own.back_size)
        ):
            continue
        found[pair.source, pair.target] = float(shorter_way(size, back, own.own_size, own.back_size))
    return found


def shorter_way(size: Size, back: Size, own: Size, own_back: Size) -> Size:
    """The w of numbers, or of arrays of them.

    Args:
        size: Size of the common pattern.
        back: That of the pair back.
        own: Median size of what single images need.
        own_back: That of the pair back.
    """
    w: Size = np.log(back / size) - np.log(own_back / own) / 2.0
    return w


def _concluded(
    statistic: str,
    values: Mapping[Pair, float],
    tails: Mapping[Pair, tuple[float, float]],
    *,
    config: ScanConfig,
    num_classes: int,
    detector: str,
    num_tests: int,
) -> Inference:
    """One of so many conclusions, from the value of every pair, its chance without an attack, and what breaks ties."""
    from backscan.scanner.results import Inference, without_nan

    matrix = np.full((num_classes, num_classes), np.nan)
    for place, value in values.items():
        matrix[place] = value
    source = target = p_value = None
    if values:
        source, target = extreme = min(values, key=lambda place: tails[place])
        p_value = max(sys.float_info.min, min(1.0, len(values) * tails[extreme][0]))
    calibrated = None if p_value is None else max(FLOOR / num_tests, p_value)
    deciding = p_value if config.published_p else calibrated
    return Inference(
        detector=detector,
        space="image",
        norm=config.norm,
        statistic=statistic,
        inference="principal",
        num_pairs=len(values),
        values=tuple(without_nan(row) for row in matrix),
        null=None,
        source=source,
        target=target,
        p_value=p_value,
        calibrated_p_value=calibrated,
        bootstrap_draws=0,
        detected=deciding is not None and num_tests * deciding <= config.significance,
        remarks=() if values else ("no pair had its patterns compared",),
    )


def p_of(transfer: Transfer) -> float:
    """Chance of a transferability as large without an attack, of one pair."""
    if transfer.rate is None or transfer.error is None:
        return 1.0
    return _tail((transfer.rate - CENTRE) / max(transfer.error, _LEAST_ERROR))


def _tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2.0))


def _way(transfer: Transfer) -> float:
    """The way there beside the way back."""
    return (transfer.own_size or 0.0) / max(transfer.back_size or 1.0, 1e-30)
