"""What the detectors concluded from all pairs, with the fitted null."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from backscan.scanner.results.base import STRICT
from backscan.scanner.results.pairs import PairKey

TARGET_RATE, PAIR_RATE, TARGET_REACH, TARGET_MASK = RATE_STATISTICS = (
    "target-rate",
    "pair-rate",
    "target-reach",
    "target-mask",
)
"""Statistics of patterns that take the place of the image: of rates, reach and masks instead of sizes."""
OF_TARGETS_TOGETHER, OF_PAIRS_TOGETHER = "targets-together", "pairs-together"
"""What several witnesses say together, of targets and of pairs."""
IMAGE = "image"
"""Space of patterns that are added to the image; any other is the name of a tensor."""
TRANSFERABILITY = "transferability"
"""Statistic of how often the pattern of one image moves another."""
ONE_WAY = "one-way"
"""Statistic of how much shorter the way of a pair is than the way back."""
OF_FEW_CLASSES = (TRANSFERABILITY, ONE_WAY)
"""Statistics of models with so few classes that there are no other pairs to compare with."""
MUTUAL_TRANSFER = "mutual-transfer"
"""Statistic of how the patterns of class pairs work on each other's images."""
LIMITS_OF_TRANSFERABILITY = (
    "with so few classes a pattern is found that is added to the image and leads one way at well below the size of the "
    "way back, on photographs seldom, and of two classes only named, as one of them may be all the rest; a patch of a "
    "few pixels, or an attack both ways, may be missed"
)
"""What a verdict by transferability can speak about."""
POWER_OF_TRANSFERABILITY = (
    "of small networks with three and four classes 16 of 20 planted chessboards were found on digits and 2 of 9 on "
    "photographs, none of 28 patches, with no alarm on 90 that nobody attacked"
)
"""How often that was so, by `python -m benchmarks.accuracy.populations` (benchmarks/results/populations.md)."""


def without_nan(row: NDArray[np.float64]) -> tuple[float | None, ...]:
    """Values [n] as reports hold them: None where there is none."""
    return tuple(None if math.isnan(value) else value for value in row.tolist())


@dataclass(frozen=True, slots=True, config=STRICT)
class Curve:
    """A sampled function, for plots."""

    x: tuple[float, ...]
    """Abscissae, increasing."""
    y: tuple[float, ...]
    """Ordinates."""


@dataclass(frozen=True, slots=True, config=STRICT)
class NullFit:
    """A null distribution fitted to the smallest reciprocals, conditional on lying below the cutoff."""

    family: str
    """Name in the table of null families."""
    parameters: dict[str, float]
    """Fitted parameters by name."""
    cutoff: float | None
    """Smallest excluded statistic, the right truncation point; None when nothing is excluded (naive)."""
    largest: float
    """Largest statistic of all pairs."""
    sample_size: int
    """Number of statistics the null was fitted to."""
    status: str
    """`reached`, `boundary` (the likelihood grows to the edge of the family) or `failed`."""
    density: Curve | None = None
    """Probability density over the range of the statistics, for the histogram."""


@dataclass(frozen=True, slots=True, config=STRICT)
class TargetFigures:
    """How far each target class stands out from the others by a witness that has one value a target."""

    values: tuple[float | None, ...]
    """The value of each target, [K]; None for one without."""
    errors: tuple[float | None, ...]
    """Standard error of each t by resampling images, [K]; None where it is not known."""
    t: tuple[float | None, ...]
    """Each value against the others: Student's t with two degrees less than targets where nothing stands out, [K]."""
    tails: tuple[float | None, ...]
    """Chance that one target named in advance reaches its t, one-sided, [K]."""
    p_values: tuple[float | None, ...]
    """Chance that the largest of all targets reaches this t, simulated, [K]."""
    together: tuple[float, ...]
    """How far the one, two or three largest stand out together."""
    together_p_values: tuple[float, ...]
    """Simulated p-value of each of those by itself; the smallest, calibrated jointly, is that of the conclusion."""
    named: tuple[int, ...]
    """The targets that stand out together most, the largest first."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Witness:
    """What one conclusion says of what several conclude together."""

    detector: str
    """Name in the table of detectors."""
    statistic: str
    """What it concludes from."""
    source: int | None
    """Source class that it shows best."""
    target: int | None
    """Target class that it speaks of."""
    p_value: float | None
    """Its own calibrated p-value, of its most extreme pair or target."""
    t: float | None = None
    """How far that target stands out by this witness alone, as Student's t; None for pairs."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Inference:
    """What one detector concludes from all pairs."""

    detector: str
    """Name in the table of detectors."""
    space: str
    """Where the pattern acts: `image` or the name of a tensor."""
    norm: str
    """Norm of the sizes."""
    statistic: str
    """Name in the table of statistics."""
    inference: str
    """Name in the table of inferences."""
    num_pairs: int
    """Pairs that count: the exponent of equation (4)."""
    values: tuple[tuple[float | None, ...], ...]
    """The statistic of every pair [K, K] (None where a pair does not count; where only some were searched, a source
    without any has an empty row), or [1, K] anomaly indices."""
    null: NullFit | None
    """Fitted null; None for detectors without one."""
    source: int | None
    """Source class of the most extreme pair; None when the search pools all other classes."""
    target: int | None
    """Target class of the most extreme pair."""
    p_value: float | None
    """Order-statistic p-value of the most extreme pair, equation (4)."""
    calibrated_p_value: float | None
    """The same, calibrated by a parametric bootstrap of the whole procedure."""
    bootstrap_draws: int
    """Draws of that bootstrap; 0 if none were made."""
    detected: bool
    """Whether the deciding p-value lies below the significance."""
    decides: bool = True
    """Whether this detector's p enters the verdict; those without a p only inform."""
    anomaly_index: float | None = None
    """Median-absolute-deviation index of detectors that use one."""
    detectable_size: float | None = None
    """Size at which four of five pairs, had they been planted, would have been detected; None if unknown."""
    remarks: tuple[str, ...] = ()
    """What a reader should know about this inference."""
    targets: TargetFigures | None = None
    """How far each target stands out, of a conclusion about targets by the test of `target_test`."""
    abnormal: tuple[tuple[int, int], ...] = ()
    """Pairs that would be significant each as the most extreme, that first; empty of conclusions about targets."""
    witnesses: tuple[Witness, ...] = ()
    """What several conclusions that decide together say, the strongest first; empty for one that stands alone."""
    carried_by: str | None = None
    """Statistic of the witness whose pattern stands for what several conclude together."""
    part_of: str | None = None
    """Statistic of the conclusion of several that this one is a witness of."""
    fitted_p_value: float | None = None
    """The deciding p-value by the fitted null alone, where the most extreme pair passes for two classes that look alike
    and has a larger one; None elsewhere."""

    @property
    def is_of_rates(self) -> bool:
        """Whether its pattern is judged by how often images follow it, not by how small it is."""
        return (self.carried_by or self.statistic) in RATE_STATISTICS

    @property
    def scattered(self) -> Mapping[int, int]:
        """Target of every source where images of many classes go to another class each; empty where they do not."""
        targets = dict(reversed(self.abnormal))
        return targets if len(targets) > 2 and len(set(targets.values())) > len(targets) // 2 else {}

    @property
    def key(self) -> PairKey:
        """Detector, source and target of the most extreme pair."""
        return self.detector, self.source, self.target


def first_with_power(inferences: Iterable[Inference]) -> Inference | None:
    """The first that knows the size of a pair that it would have detected, and decides or is part of what does.

    One of patterns on the image comes before others, as its sizes are those of pixels. None if none knows.
    """
    known = [each for each in inferences if each.detectable_size is not None and (each.decides or each.part_of)]
    return min(known, key=lambda each: each.space != IMAGE, default=None)
