"""P-values of conclusions that share one significance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backscan.scanner.results import Inference

NEAR = 4.0
"""Up to this many times the significance a p-value is borderline."""


def corrected_p_value(inference: Inference, inferences: Sequence[Inference], *, published: bool) -> float | None:
    """The p-value of one conclusion times the number m of those that decide, at most 1; None if it has none."""
    return _times_number(deciding_p_value(inference, published=published), inferences, published=published)


def corrected_by_null(inference: Inference, inferences: Sequence[Inference], *, published: bool) -> float | None:
    """The same with the p-value by the fitted null, whether or not two classes that look alike have a larger one."""
    return _times_number(p_value_by_null(inference, published=published), inferences, published=published)


def _times_number(own: float | None, inferences: Sequence[Inference], *, published: bool) -> float | None:
    number = sum(deciding_p_value(entry, published=published) is not None for entry in inferences)
    return None if own is None else min(1.0, own * number)


def deciding_p_value(inference: Inference, *, published: bool) -> float | None:
    """The p-value of one detector that enters the verdict; None if it only informs."""
    if not inference.decides:
        return None
    return inference.p_value if published else inference.calibrated_p_value


def p_value_by_null(inference: Inference, *, published: bool) -> float | None:
    """The p-value of one detector by the fitted null alone; None if it only informs."""
    own = deciding_p_value(inference, published=published)
    return own if own is None or inference.fitted_p_value is None else inference.fitted_p_value
