"""Neural Cleanse (Wang et al. 2019) as XMK section 5.2.2 uses it: the smallest mask for each target, equations (8) (9).

It pools the images of all other classes and compares K masks, so it sees attacks from all classes and gives no
source. It gives an index, and a p-value by the test of targets on the logarithms of the masks' sizes; it only informs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.base import Examination
    from backscan.scanner.detectors.mask_search import Masked
    from backscan.scanner.results import Inference, TargetResult

NAME = "neural-cleanse"

# An index needs a median and a deviation from it.
_FEWEST_CLASSES = 3
_LARGEST_INDEX = 1e6


def search(examination: Examination) -> Iterator[TargetResult]:
    """The smallest mask of every wanted target."""
    from backscan.scanner.detectors.mask_search import search_every_target

    def penalty(masked: Masked) -> Tensor:
        return mask_share(masked, examination.config.norm)

    return search_every_target(examination, penalty, name=NAME)


def infer(targets: Sequence[TargetResult], config: ScanConfig, num_classes: int) -> Inference:
    """Which target's mask is abnormally small, by the median absolute deviation, and how likely that is by chance."""
    from backscan.scanner.inference.target_test import NUM_DRAWS

    found = infer_from_masks(targets, config, num_classes, name=NAME)
    p_value, calibrated = p_values(targets, num_classes, config.seed)
    draws = 0 if calibrated is None else NUM_DRAWS
    return replace(found, p_value=p_value, calibrated_p_value=calibrated, bootstrap_draws=draws)


def mask_share(masked: Masked, norm: str) -> Tensor:
    """Norm of each mask over that of a mask that covers all, [T]: its weight means the same at every image size."""
    from backscan.scanner.search.norms import NORMS

    return NORMS[norm](masked.mask) / NORMS[norm](masked.mask.new_ones(masked.mask[:1].shape))


def infer_from_masks(targets: Sequence[TargetResult], config: ScanConfig, num_classes: int, *, name: str) -> Inference:
    """The target whose mask lies farthest below the median, in units of the deviation.

    Masks that did not reach the goal rate below the upper bound are left out (XMK section 5.2.2).
    """
    from backscan.kernels.order import anomaly_indices
    from backscan.scanner.results import Inference

    sizes = {entry.target: entry.value for entry in targets if entry.value is not None}
    enough = len(sizes) >= _FEWEST_CLASSES
    # Where most masks are of one size any other is infinitely far off; reports hold finite numbers.
    values = np.clip(anomaly_indices(list(sizes.values())), -_LARGEST_INDEX, _LARGEST_INDEX).tolist() if enough else []
    indices = dict(zip(sizes, values, strict=False))
    smallest = max(indices, key=lambda label: indices[label], default=None)
    index = None if smallest is None else indices[smallest]
    unreached = len(targets) - len(sizes)
    return Inference(
        detector=name,
        space="image",
        norm=config.norm,
        statistic="mask",
        inference="mad",
        num_pairs=len(sizes),
        values=(tuple(indices.get(label) for label in range(num_classes)),),
        null=None,
        source=None,
        target=smallest,
        p_value=None,
        calibrated_p_value=None,
        bootstrap_draws=0,
        detected=index is not None and index > config.anomaly_threshold,
        decides=False,
        anomaly_index=index,
        remarks=tuple(_remarks(unreached, enough)),
    )


def p_values(targets: Sequence[TargetResult], num_classes: int, seed: int) -> tuple[float | None, float | None]:
    """How likely one mask, or a few together, are so small by chance: published and calibrated; None if masks are few.

    The negative logarithms of sizes are taken for a normal sample (Grubbs' test, and the largest together).

    Args:
        targets: Results of the search; masks that did not reach the goal rate are left out.
        num_classes: Classes K of the model.
        seed: Seed of the simulation.
    """
    from backscan.kernels import order_p_value
    from backscan.scanner.inference.target_test import target_test

    values = np.full(num_classes, np.nan)
    for entry in targets:
        if entry.value is not None and entry.value > 0.0:
            values[entry.target] = -np.log(entry.value)
    test = target_test(values, seed=seed)
    if test.p_value is None:
        return None, None
    published = order_p_value(float(test.tails[test.order[0]]), len(test.order))
    return max(published, sys.float_info.min), test.p_value


def _remarks(unreached: int, enough: bool) -> Iterator[str]:
    if unreached:
        yield f"{unreached} targets did not reach the goal rate and are left out"
    if not enough:
        yield f"expected at least {_FEWEST_CLASSES} masks to compare"
