"""Whether the smallest mask of a target class, or of a few together, is abnormally small among those of all targets.

The negative logarithms of the masks' sizes are taken for a normal sample (`target_test`). A target that no mask
reached counts as the largest mask that was found: it is no less far than that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backscan.scanner.results import LEAST_MASK

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.results import Inference, TargetResult

# Without so many of the targets reached the others have no scale that could be known.
_LEAST_SHARE = 0.5


def infer_mask_sizes(
    targets: Sequence[TargetResult], config: ScanConfig, num_classes: int, *, detector: str
) -> Inference:
    """What the masks of all targets say; its source is the class that follows the mask most.

    Args:
        targets: Results of the search, with their supports.
        config: Significance and seed.
        num_classes: Classes K of the model.
        detector: Name in the table of detectors.
    """
    from backscan.kernels import order_p_value
    from backscan.scanner.inference.target_test import NUM_DRAWS, target_test
    from backscan.scanner.results import TARGET_MASK, Inference, find_target, without_nan

    reciprocals, unreached = _reciprocals(targets, num_classes)
    test = target_test(np.log(reciprocals), seed=config.seed)
    remarks = [f"{unreached} targets that no mask reached count as the largest"] if unreached else []
    source = target = p_value = None
    if test.p_value is not None:
        target = test.order[0]
        entry = find_target(targets, detector, target)
        source = None if entry is None or entry.support is None else entry.support.first_source
        p_value = max(order_p_value(float(test.tails[target]), len(test.order)), sys.float_info.min)
        if len(test.named) > 1:
            remarks.append(f"targets {', '.join(map(str, test.named))} stand out together")
    elif targets:
        remarks.append("masks reached too few targets to compare them")
    if source is None and target is not None:
        remarks.append("no class has enough images to replay a mask: add images, 13 of each class or more")
    deciding = p_value if config.published_p else test.p_value
    return Inference(
        detector=detector,
        space="image",
        norm="l1",
        statistic=TARGET_MASK,
        inference="principal",
        num_pairs=len(test.order),
        values=(without_nan(reciprocals),),
        null=None,
        source=source,
        target=target,
        p_value=p_value,
        calibrated_p_value=test.p_value,
        bootstrap_draws=NUM_DRAWS if test.p_value is not None else 0,
        detected=deciding is not None and deciding <= config.significance,
        remarks=tuple(remarks),
    )


def _reciprocals(targets: Sequence[TargetResult], num_classes: int) -> tuple[NDArray[np.float64], int]:
    """One over the size of each target's mask, [K], NaN where nothing can be said; and how many no mask reached."""
    reciprocals = np.full(num_classes, np.nan)
    reached = {entry.target: entry.value for entry in targets if entry.value and entry.value >= LEAST_MASK}
    unreached = [entry.target for entry in targets if entry.target not in reached]
    if not reached or len(reached) < _LEAST_SHARE * len(targets):
        return reciprocals, len(unreached)
    for target, size in reached.items():
        reciprocals[target] = 1.0 / size
    reciprocals[unreached] = 1.0 / max(reached.values())
    return reciprocals, len(unreached)
