"""Expected transferability judged: is it above one half for a pair, by more than its error?

On unattacked models it stays below one half at the size at which it is measured (`search/transfer.py`), so a pair has
p = sf((ET - 1/2) / error), and the least p of all pairs is multiplied by their number. Where no pattern fails the error
is 0, and nothing below the floor can be told: that of the networks on which the size was chosen.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.results import Inference, PairResult, Transfer

CENTRE = 0.5
"""What two classes that are equally far from each other would have at the size of the way back."""
FLOOR = 1.0 / 45.0
"""Least p of a model: one more than the unattacked networks on which the size was chosen, none of which reached it."""
_LEAST_ERROR = 1e-9


def infer_transfers(
    pairs: Sequence[PairResult], config: ScanConfig, num_classes: int, *, detector: str
) -> tuple[Inference, ...]:
    """What the transferability of all pairs says.

    Args:
        pairs: Results of the search.
        config: Norm and significance.
        num_classes: Classes K of the model.
        detector: Name in the table of detectors.

    Returns:
        One conclusion, about the pair that stands out most; without a p where nothing could be measured.
    """
    from backscan.scanner.results import TRANSFERABILITY, Inference, without_nan

    measured = {
        (pair.source, pair.target): pair.transfer
        for pair in pairs
        if pair.status.counts and pair.transfer is not None and pair.transfer.rate is not None
    }
    values = np.full((num_classes, num_classes), np.nan)
    for place, transfer in measured.items():
        values[place] = transfer.rate
    source = target = p_value = None
    if measured:
        (source, target), extreme = min(measured.items(), key=lambda entry: _order(entry[1]))
        p_value = max(sys.float_info.min, min(1.0, len(measured) * p_of(extreme)))
    calibrated = None if p_value is None else max(FLOOR, p_value)
    deciding = p_value if config.published_p else calibrated
    return (
        Inference(
            detector=detector,
            space="image",
            norm=config.norm,
            statistic=TRANSFERABILITY,
            inference="principal",
            num_pairs=len(measured),
            values=tuple(without_nan(row) for row in values),
            null=None,
            source=source,
            target=target,
            p_value=p_value,
            calibrated_p_value=calibrated,
            bootstrap_draws=0,
            detected=deciding is not None and deciding <= config.significance,
            remarks=() if measured else ("no pair had its patterns compared",),
        ),
    )


def p_of(transfer: Transfer) -> float:
    """Chance of a transferability as large without an attack, of one pair."""
    if transfer.rate is None or transfer.error is None:
        return 1.0
    z = (transfer.rate - CENTRE) / max(transfer.error, _LEAST_ERROR)
    return 0.5 * math.erfc(z / math.sqrt(2.0))


def _order(transfer: Transfer) -> tuple[float, float]:
    """The least p first; among equals the pair with the shortest way beside its way back."""
    own, back = transfer.own_size or 0.0, transfer.back_size or 1.0
    return p_of(transfer), own / max(back, 1e-30)
