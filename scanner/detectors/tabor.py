"""TABOR (Guo et al. 2019): Neural Cleanse with regularisers against masks that a planted patch would not have.

Added to the size of the mask, as XMK section 4 says it: scattered masks, what the pattern holds outside its mask,
masks that cover what makes the image its class, and patterns that do not work by themselves. The index is that of
Neural Cleanse, from the size of the mask. It only informs, and has no p-value: its masks are no normal sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from backscan.scanner.detectors.neural_cleanse import infer_from_masks, mask_share

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.base import Examination
    from backscan.scanner.detectors.mask_search import Masked
    from backscan.scanner.results import Inference, TargetResult

NAME = "tabor"

# Weights beside the mask's own. A share of a cross-entropy is enough: it is of the order of one, as the mask's is.
_OUTSIDE, _SCATTERED, _COVERING, _ALONE = 0.1, 1.0, 0.1, 0.1


def search(examination: Examination) -> Iterator[TargetResult]:
    """The smallest regular mask of every wanted target."""
    from backscan.scanner.detectors.mask_search import search_every_target

    def penalty(masked: Masked) -> Tensor:
        return mask_share(masked, examination.config.norm) + irregularity(masked)

    return search_every_target(examination, penalty, name=NAME)


def infer(targets: Sequence[TargetResult], config: ScanConfig, num_classes: int) -> Inference:
    """Which target's mask is abnormally small, by the median absolute deviation."""
    return infer_from_masks(targets, config, num_classes, name=NAME)


def irregularity(masked: Masked) -> Tensor:
    """What a planted patch would not show, weighed, [T]."""
    from backscan.scanner.detectors.mask_search import mean_cross_entropy

    weights = masked.mask.unsqueeze(1)
    outside = masked.pattern * (1 - masked.mask)
    uncovered = mean_cross_entropy(masked.log_posterior(masked.images * (1 - weights)), masked.labels)
    shown = (masked.pattern * masked.mask).unsqueeze(1)
    alone = mean_cross_entropy(masked.log_posterior(shown), masked.targets.unsqueeze(1))
    return (
        _OUTSIDE * (_elastic(outside) + _variation(outside))
        + _SCATTERED * (masked.mask.square().mean(dim=(1, 2, 3)) + _variation(masked.mask))
        + _COVERING * uncovered
        + _ALONE * alone
    )


def _elastic(values: Tensor) -> Tensor:
    """Mean absolute value and mean square, [T, ...] -> [T]."""
    return values.abs().mean(dim=(1, 2, 3)) + values.square().mean(dim=(1, 2, 3))


def _variation(values: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, [T, C, H, W] -> [T]."""
    down = values.diff(dim=2).abs().mean(dim=(1, 2, 3))
    return down + values.diff(dim=3).abs().mean(dim=(1, 2, 3))
