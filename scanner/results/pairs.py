"""What the search found: a result for every pair, or for every target class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, field, replace
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, SkipValidation, TypeAdapter, WithJsonSchema
from pydantic.dataclasses import dataclass

from backscan.scanner.results.base import STRICT, EncodedArray, plain
from backscan.scanner.results.supports import SupportRecord

Pair = tuple[int, int]
"""Source and target class."""
PairKey = tuple[str, int | None, int | None]
"""Detector, source class, target class: what names a pair in a report; a pooled search has no source."""


class PairStatus(StrEnum):
    """How the search for one (source, target) pair ended."""

    REACHED = "reached"
    SIZE_LIMIT = "size_limit"
    STEP_LIMIT = "step_limit"
    ALREADY_CONFUSED = "already_confused"
    NO_IMAGES = "no_images"

    @property
    def explanation(self) -> str:
        """What happened and what to change."""
        return _EXPLANATIONS[self]

    @property
    def counts(self) -> bool:
        """Whether the pair enters the statistics (docs/contract.md, Optimisation)."""
        return self not in (PairStatus.ALREADY_CONFUSED, PairStatus.NO_IMAGES)


_EXPLANATIONS = {
    PairStatus.REACHED: "the pattern sends the goal rate of source images to the target",
    PairStatus.SIZE_LIMIT: "the goal rate was not reached before the size limit; raise --max-size",
    PairStatus.STEP_LIMIT: "the goal rate was not reached before the step limit; raise --max-steps",
    PairStatus.ALREADY_CONFUSED: "the model decides for the target without any pattern; check labels and preprocessing",
    PairStatus.NO_IMAGES: "the source class has too few images; add images of that class",
}


UNREACHED = 2.0
"""What a pair that ended at a limit counts as, in the largest size tried: `benchmarks.calibration` has the levels."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Trajectory:
    """Size and rate after every step of the search for one pair; the first entry is size 0 and the initial rate."""

    sizes: tuple[float, ...]
    """Norm of the pattern after each step, pixel units, [T + 1]."""
    rates: tuple[float, ...]
    """Group misclassification rate after each step, [T + 1]."""


class IndividualStatus(StrEnum):
    """What the quantile of the individual sizes of a pair is worth."""

    FOUND = "found"
    """Every image up to the quantile arrived."""
    LIMIT = "limit"
    """So many images did not arrive that the quantile is the limit they count as."""
    FEW_IMAGES = "few_images"
    """The source has too few images for a quantile: it takes no part in the statistic of commonality."""


@dataclass(frozen=True, slots=True, config=STRICT)
class IndividualSize:
    """What the images of a pair need one by one, beside the pattern that moves them together."""

    status: IndividualStatus
    """What the quantile is worth."""
    size: float | None = None
    """Quantile of the individual sizes at the goal rate, an order statistic; None with too few images."""
    error: float | None = None
    """Its standard error by resampling the images; None likewise."""
    common_size: float | None = None
    """Size of the pair's pattern that moves the goal rate of the same images; None where the pair has none."""
    images: tuple[float, ...] = ()
    """Size of each image, 0 if it is at the target already; beyond the quantile some are only known to lie there."""


class TransferStatus(StrEnum):
    """What is known of how the patterns of single images move each other."""

    FOUND = "found"
    """It was measured."""
    LIMIT = "limit"
    """Half of the images of the target found no way back within the limit: there is nothing to measure by."""
    FEW_IMAGES = "few_images"
    """One of the two classes has too few images that are decided as such."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Transfer:
    """How often the pattern that one image of a pair's source needs moves another image of the source."""

    status: TransferStatus
    """What the rate is worth."""
    num_images: int = 0
    """Images of the source that have a pattern each."""
    rate: float | None = None
    """Share of ordered pairs of two images where the pattern of the first, at a share of the size of the way back,
    sends the second to the target: expected transferability; None where it was not measured."""
    error: float | None = None
    """Its jackknife standard error over the images."""
    own_size: float | None = None
    """Median size of the images' own patterns."""
    back_size: float | None = None
    """The same of the target's images towards the source."""


@dataclass(frozen=True, slots=True, config=ConfigDict(**STRICT, arbitrary_types_allowed=True))
class PairResult:
    """What the search for one (source, target) pair found."""

    detector: str
    """Detector that searched."""
    source: int
    """Source class."""
    target: int
    """Target class."""
    status: PairStatus
    """How the search ended."""
    size: float | None
    """Norm of the found pattern; at a limit the largest norm tried; None if the pair does not count."""
    initial_rate: float | None
    """Share of source images decided as the target without any pattern; None without images."""
    rate: float | None
    """Share of source images decided as the target with the pattern; None without images."""
    steps: int
    """Gradient steps taken."""
    trajectory: Trajectory
    """Every step of the search, for equation (7) and the curves."""
    offset: float | None = None
    """Size offset for class confusion, equation (7); None unless the inference corrects for it."""
    reciprocal: float | None = None
    """The statistic before any normalisation: 1 / (size + offset), with twice the size of a pair that
    ended at a limit; None if the pair does not count."""
    pattern: Annotated[NDArray[np.float32] | None, SkipValidation, WithJsonSchema({})] = field(
        default=None, compare=False, repr=False
    )
    """The found pattern [C, H, W] or in feature shape; only the detected pair's is kept in reports."""
    chosen: bool = False
    """Whether a screen chose the pair because it looked small: it is tested, but the null is not fitted to it."""
    individual_size: IndividualSize | None = None
    """What single images need, where the statistic of commonality was asked for."""
    transfer: Transfer | None = None
    """How the patterns of single images move each other, of the detector of transferability."""
    clean_margin: float | None = None
    """Median over the source's images that are decided as such of how far its log posterior leads over the target's;
    None with fewer than three such images, and in reports of versions that did not tell."""

    @property
    def key(self) -> PairKey:
        """Detector, source and target."""
        return self.detector, self.source, self.target

    @property
    def needed(self) -> float | None:
        """Size that it counts as: of one that ended at a limit twice the largest tried; None if it does not count."""
        return self.size if self.size is None or self.status is PairStatus.REACHED else UNREACHED * self.size

    def to_dict(self) -> dict[str, Any]:
        """Plain fields without the pattern, which travels beside them as an array."""
        document = asdict(replace(self, pattern=None))
        del document["pattern"]
        fields: dict[str, Any] = plain(document)
        return fields

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], pattern: NDArray[np.float32] | None = None) -> PairResult:
        """The result that `to_dict` wrote, with its pattern.

        Raises:
            ValueError: a field is missing, unknown or of the wrong type.
        """
        return replace(_ADAPTER.validate_python(document), pattern=pattern)


@dataclass(frozen=True, slots=True, config=STRICT)
class ScreenRecord:
    """Which pairs of a model with many classes one detector searched."""

    detector: str
    """Detector that searched."""
    num_pairs: int
    """Pairs that were estimated, or drawn: all whose source has images."""
    num_drawn: int
    """Pairs drawn at random and searched: the null is fitted to them."""
    num_chosen: int
    """Further pairs with the smallest estimates and were searched."""


@dataclass(frozen=True, slots=True, config=STRICT)
class PatternsAcross:
    """What the patterns that lead to one target do to the images of all classes, all of one size."""

    sources: tuple[int, ...]
    """Source of each pattern, [S]."""
    hits: EncodedArray
    """Images of each class that are decided as each class with every pattern, on both halves of them, [2, S, K, K]."""
    counts: tuple[tuple[int, ...], ...]
    """Images of each class in both halves, [2, K]; 0 for a class with too few."""

    def is_possible(self, num_classes: int) -> bool:
        """Whether a model with so many classes can have given these counts."""
        hits = self.hits.decode()
        if hits.shape != (2, len(self.sources), num_classes, num_classes) or len(self.counts) != 2:
            return False
        if any(len(row) != num_classes or min(row) < 0 for row in self.counts):
            return False
        whole = bool((hits >= 0).all() and (hits == np.floor(hits)).all())
        every = bool((hits.sum(axis=3) == np.array(self.counts)[:, None]).all())
        return whole and every and all(0 <= source < num_classes for source in self.sources)


@dataclass(frozen=True, slots=True, config=STRICT)
class TargetResult:
    """What a search for one target class found that pools all other classes, or needs no images at all."""

    detector: str
    """Detector that searched."""
    target: int
    """Target class."""
    status: PairStatus
    """How the search ended."""
    value: float | None
    """Norm of the smallest mask, the largest margin, the logit of the rate, or the mean weight in the last layer; None
    if there is none to compare."""
    rate: float | None
    """Share of the images of all other classes decided as the target; None without images."""
    steps: int
    """Gradient steps taken."""
    support: SupportRecord | None = None
    """What takes the place of the image, of detectors that search for that; left out of reports where there is none."""
    score_on_noise: float | None = None
    """Mean log-posterior on noise less that of all classes, of `head`; left out of reports where there is none."""
    nearness: float | None = None
    """How near the target is to images where the last layer sees them, by detector `reach`; left out likewise."""
    across: PatternsAcross | None = None
    """What the patterns that lead there do to the images of all classes, by detector `umd`; left out likewise."""

    def to_dict(self) -> dict[str, Any]:
        """Plain fields."""
        fields: dict[str, Any] = plain(asdict(self))
        return fields


# Patterns and posteriors are float32, and so is what measures them; far beyond, the draws of a null run out of numbers.
_LEAST, _LARGEST = float(np.finfo(np.float32).smallest_subnormal), float(np.finfo(np.float32).max)


def is_possible(pair: PairResult) -> bool:
    """Whether a search can have given these numbers: the statistics rely on it."""
    sizes, rates = pair.trajectory.sizes, (*pair.trajectory.rates, pair.rate, pair.initial_rate)
    if pair.status is PairStatus.NO_IMAGES:
        return pair.size is None
    return (
        pair.status.counts == (pair.size is not None)
        and (pair.size is None or _LEAST <= pair.size <= _LARGEST)
        and len(sizes) == len(pair.trajectory.rates) > 0
        and all(0.0 <= size <= _LARGEST for size in sizes)
        and all(rate is not None and 0.0 <= rate <= 1.0 for rate in rates)
        and (pair.individual_size is None or _is_possible_alone(pair.individual_size))
        and (pair.transfer is None or _is_possible_transfer(pair.transfer))
        and (not pair.clean_margin or _LEAST <= abs(pair.clean_margin) <= _LARGEST)
    )


def _is_possible_alone(individual: IndividualSize) -> bool:
    """Whether single images can have these sizes."""
    if individual.status is IndividualStatus.FEW_IMAGES:
        return individual.size is None and individual.error is None
    told = (individual.size, individual.error, *individual.images)
    common = individual.common_size
    return (
        len(individual.images) > 0
        and all(value is not None and 0.0 <= value < np.inf for value in told)
        and (common is None or 0.0 < common < np.inf)
    )


def _is_possible_transfer(transfer: Transfer) -> bool:
    """Whether the patterns of single images can move each other so."""
    told = (transfer.rate, transfer.error, transfer.own_size, transfer.back_size)
    if transfer.status is not TransferStatus.FOUND:
        return told == (None, None, None, None)
    return (
        transfer.num_images > 0
        and all(value is not None and 0.0 <= value < np.inf for value in told)
        and transfer.rate is not None
        and transfer.rate <= 1.0
    )


def find_pair(pairs: Iterable[PairResult], key: PairKey) -> PairResult | None:
    """The pair that a key names, None where it was not searched."""
    return next((pair for pair in pairs if pair.key == key), None)


def find_target(targets: Iterable[TargetResult], detector: str, target: int | None) -> TargetResult | None:
    """What a detector found for a target class, None where it was not searched."""
    return next((entry for entry in targets if (entry.detector, entry.target) == (detector, target)), None)


_ADAPTER = TypeAdapter(PairResult)
