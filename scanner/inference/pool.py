"""A pool of the user's own: where a model's p-value stands among those of models that the user trusts.

The rank is a conformal p-value: if the model is like those of the pool it is at most any level with at most that
probability, whatever the distribution. That a pool may hold some attacked models is met by leaving out its most
extreme reports, after Xiang et al. (CBD, 2023); the trimmed p is then too small where none of them is attacked, so both
are told. They inform: the verdict stays the model's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backscan.scanner.choices import SEARCH, STATISTICS
from backscan.scanner.config import OPTIONS
from backscan.scanner.results import PoolRecord

if TYPE_CHECKING:
    from backscan.scanner.results import ScanResult

TRIMMED = 0.2
"""Share of the pool that may be attacked."""
# Scans are alike if the same is searched and judged; these say where that is in a model, or what becomes of a p-value.
_MAY_DIFFER = frozenset({"output_name", "cut", "significance", "mask_weight", "anomaly_threshold"})
_ALIKE = [name for name, each in OPTIONS.items() if each.panel in {SEARCH, STATISTICS} and name not in _MAY_DIFFER]


def among(result: ScanResult, pool: Sequence[ScanResult]) -> PoolRecord | None:
    """Where a result stands among others.

    Args:
        result: A scan.
        pool: Scans of models that the user trusts.

    Returns:
        None if the result has no p-value, or no report of the pool can be compared with it.
    """
    own = _extremeness(result)
    alike = [] if own is None else [value for each in pool if (value := _comparable(result, each)) is not None]
    if own is None or not alike:
        return None
    alike.sort()
    trimmed = int(TRIMMED * len(alike))
    return PoolRecord(
        num_reports=len(alike),
        num_other=len(pool) - len(alike),
        p_value=_rank(own, alike),
        num_trimmed=trimmed,
        trimmed_p_value=_rank(own, alike[trimmed:]),
    )


def _rank(own: float, others: Sequence[float]) -> float:
    return (1 + sum(each <= own for each in others)) / (1 + len(others))


def _comparable(result: ScanResult, other: ScanResult) -> float | None:
    """The p-value of another scan that was made as this one was; None if it was not."""
    same_file = other.model.sha256 == result.model.sha256
    return None if same_file or _options(other) != _options(result) else _extremeness(other)


def _options(result: ScanResult) -> dict[str, object]:
    return {name: result.config.get(name) for name in ("images_per_class", *_ALIKE)}


def _extremeness(result: ScanResult) -> float | None:
    """The p-value that the verdict rests on, the smaller the more extreme."""
    return result.p_value if result.config.get("published_p") else result.calibrated_p_value
