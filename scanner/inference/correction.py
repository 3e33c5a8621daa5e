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
    own = deciding_p_value(inference, published=published)
    return None if own is None else min(1.0, own * num_deciding(inferences, published=published))


def num_deciding(inferences: Sequence[Inference], *, published: bool) -> int:
    """How many conclusions have a p-value that enters the verdict: m."""
    return sum(deciding_p_value(entry, published=published) is not None for entry in inferences)


def deciding_p_value(inference: Inference, *, published: bool) -> float | None:
    """The p-value of one detector that enters the verdict; None if it only informs."""
    if not inference.decides:
        return None
    return inference.p_value if published else inference.calibrated_p_value


def p_value_by_null(inference: Inference, *, published: bool) -> float | None:
    """The deciding p-value by the fitted null, whether or not two classes that look alike have a larger one."""
    if inference.fitted_p_value is not None:
        return inference.fitted_p_value
    return inference.p_value if published else inference.calibrated_p_value
