"""Which of many targets stand out by how far they are reached: one test on two values that every target has.

Each value is compared with those of all other targets by the spacings of the largest (`kernels/spacings.py`), which
allows for a tail as heavy as that of Student's t with five degrees; the two p-values share one threshold. Windows are
searched afterwards, towards what stands out and towards targets drawn at random, which is the null's control: what only
works as ordinary targets do is no sign of an attack, however far out it lies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backscan.kernels.spacings import FEWEST_VALUES, spacings_test

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.results import Inference, TargetResult

Vector = NDArray[np.float64]

NUM_DRAWS = 9_999
NUM_CONTROLS = 9
"""Targets drawn at random, towards which windows are searched as well."""
# Up to this many times the significance a target is worth a window.
_WORTH = 4.0
_PURPOSE = 18
_SEEN_BY = ("random windows", "the features of the last layer")


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands out of the targets."""

    p_value: float
    """Least p-value of the values, times their number."""
    named: tuple[int, ...]
    """Targets that stand out together most, the first one first."""
    seen_by: str
    """What shows them."""


def stand_out(values: Sequence[Sequence[float | None]], seed: int) -> Standing | None:
    """What stands out by one of several values of every target.

    Args:
        values: Each kind of value, one a target, [V, K]; None where a target has none.
        seed: Seed of the calibration.

    Returns:
        The kind with the least p-value; None where no kind has enough values to compare.
    """
    found: list[Standing] = []
    for kind, row in enumerate(values):
        given = np.array([math.nan if value is None else value for value in row], dtype=np.float64)
        present = np.flatnonzero(np.isfinite(given))
        if present.size >= FEWEST_VALUES:
            p_value, number = spacings_test(given[present], NUM_DRAWS, seed)
            order = present[np.argsort(-given[present], kind="stable")]
            found.append(Standing(p_value, tuple(order[:number].tolist()), _SEEN_BY[kind]))
    if not found:
        return None
    least = min(found, key=lambda each: each.p_value)
    return Standing(min(1.0, len(found) * least.p_value), least.named, least.seen_by)


def worth_windows(standing: Standing | None, num_targets: int, config: ScanConfig) -> tuple[list[int], list[int]]:
    """The targets towards which windows are searched: those that stand out, and those drawn; none where nothing does.

    Args:
        standing: What stands out.
        num_targets: Targets K.
        config: Significance and seed.
    """
    if standing is None or standing.p_value > _WORTH * config.significance:
        return [], []
    order = np.random.default_rng((config.seed, _PURPOSE)).permutation(num_targets).tolist()
    return list(standing.named), [target for target in order if target not in standing.named][:NUM_CONTROLS]


def infer_reach(
    targets: Sequence[TargetResult], config: ScanConfig, num_classes: int, *, detector: str
) -> tuple[Inference, ...]:
    """Whether a target is reached farther than the others let expect.

    Args:
        targets: Results of the search: two values each, and windows of some.
        config: Significance and seed.
        num_classes: Classes K of the model.
        detector: Name in the table of detectors.
    """
    from backscan.scanner.results import TARGET_REACH, Inference

    by_target = {entry.target: entry for entry in targets}
    rows = [
        [getattr(by_target.get(target), field, None) for target in range(num_classes)]
        for field in ("value", "nearness")
    ]
    standing = stand_out(rows, config.seed)
    target = None if standing is None else _shown(standing, by_target)
    support = None if target is None else by_target[target].support
    p_value, remarks = None, list[str]()
    if standing is not None:
        p_value, remarks = _against_controls(standing, target, by_target, config, num_classes)
        remarks.append(f"{standing.seen_by} show class {', '.join(map(str, standing.named))} farthest out")
    return (
        Inference(
            detector=detector,
            space="image",
            norm=config.norm,
            statistic=TARGET_REACH,
            inference="principal",
            num_pairs=sum(value is not None for value in rows[0]),
            values=(tuple(rows[0]),),
            null=None,
            source=None if support is None else support.first_source,
            target=target,
            p_value=p_value,
            calibrated_p_value=p_value,
            bootstrap_draws=NUM_DRAWS if p_value is not None else 0,
            detected=p_value is not None and p_value <= config.significance,
            remarks=tuple(remarks),
        ),
    )


def _shown(standing: Standing, by_target: dict[int, TargetResult]) -> int:
    """Of the targets that stand out the one whose window works best."""
    return max(standing.named, key=lambda target: by_target[target].rate or 0.0)


def _against_controls(
    standing: Standing,
    target: int | None,
    by_target: dict[int, TargetResult],
    config: ScanConfig,
    num_classes: int,
) -> tuple[float, list[str]]:
    """The p-value, which is 1 where windows work as well towards a target that was drawn."""
    _, drawn = worth_windows(standing, num_classes, config)
    rates = {label: rate for label in drawn if label in by_target and (rate := by_target[label].rate) is not None}
    own = None if target is None else by_target[target].rate
    if own is None or not rates:
        return standing.p_value, []
    best = max(rates, key=lambda label: (rates[label], -label))
    told = (
        f"a window sends {own:.0%} of the images to class {target}, and at most {rates[best]:.0%} to each of "
        f"{len(rates)} classes drawn at random"
    )
    # Where no window works at all, it is the replay that leaves what stands out unconfirmed.
    return (1.0 if rates[best] >= own > 0.0 else standing.p_value), [told]
