"""Which pairs of classes became easier from one scan to another, and whether chance explains it.

The quotient of a pair's sizes is compared with those of all other pairs, so that a model which is less robust as a
whole has no shortcut, and no unit of size matters. Quotients of unattacked networks have heavier tails than a normal
distribution: Student's t with few degrees of freedom takes their place (docs/method.md says how it was chosen).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtr

from backscan.scanner.inference.variants import confused_pairs
from backscan.scanner.results import ComparedPair, ComparedSpace, PairStatus

if TYPE_CHECKING:
    from backscan.scanner.results import Pair, PairResult, ScanResult

FEWEST_PAIRS = 20
"""Pairs below which there is nothing to compare a quotient with: those of five classes."""
DEGREES = 8
"""Degrees of freedom of the reference distribution."""
_MAD_OF_NORMAL = 1.4826


@dataclass(frozen=True, slots=True)
class _Side:
    """The pairs of one detector in one scan."""

    pairs: Mapping[Pair, PairResult]
    """Those that count and whose classes the model does not confuse on clean images."""
    errors: Mapping[Pair, float | None]
    """Standard error of the logarithm of each size."""

    @property
    def median_size(self) -> float:
        """Median of all sizes."""
        return float(np.median([_size(pair) for pair in self.pairs.values()]))


@dataclass(frozen=True, slots=True)
class Terms:
    """What a pair has to pass."""

    significance: float
    """Threshold on the corrected p-value."""
    num_spaces: int
    """Spaces that are compared: each is a chance."""
    degrees: int = DEGREES
    """Degrees of freedom of the reference distribution."""


def compare_pairs(before: ScanResult, after: ScanResult, detector: str, terms: Terms) -> ComparedSpace | None:
    """Compare the pairs that both searches of a detector count.

    Args:
        before: First scan.
        after: Second scan, of a model with the same classes.
        detector: Name in the table of detectors.
        terms: What a new shortcut has to pass.

    Returns:
        None where fewer than 20 pairs, or less than half of the second scan's, can be compared.
    """
    old, new = _side(before, detector), _side(after, detector)
    both = [pair for pair in new.pairs if pair in old.pairs]
    if len(both) < max(FEWEST_PAIRS, len(new.pairs) / 2):
        return None
    logs = np.array([math.log(_size(old.pairs[pair]) / _size(new.pairs[pair])) for pair in both])
    # What a screen chose for being small in one model is easier there by that choice alone.
    drawn = np.array([not (old.pairs[pair].chosen or new.pairs[pair].chosen) for pair in both])
    drawn = drawn if drawn.sum() >= FEWEST_PAIRS else np.ones_like(drawn)
    centre = float(np.median(logs[drawn]))
    spread = _MAD_OF_NORMAL * float(np.median(np.abs(logs[drawn] - centre)))
    num_tests = max(len(both), *(screen.num_pairs for screen in after.screens if screen.detector == detector), 0)
    rule = _Rule(old, new, spread, num_tests, terms, new.median_size)
    compared = [rule.judge(pair, float(log) - centre) for pair, log in zip(both, logs, strict=True)]
    return ComparedSpace(
        detector=detector,
        num_tests=num_tests,
        median_ratio=math.exp(-centre),
        spread=spread,
        pairs=tuple(sorted(compared, key=lambda each: (-each.t, each.ratio, each.source, each.target))),
        not_compared=tuple(sorted(pair for pair in new.pairs if pair not in old.pairs)),
    )


def detectors_of(before: ScanResult, after: ScanResult) -> tuple[str, ...]:
    """Detectors that searched pairs in both scans, in the order of the second."""
    old = {pair.detector for pair in before.pairs}
    return tuple(dict.fromkeys(pair.detector for pair in after.pairs if pair.detector in old))


def size_error(pair: PairResult, num_images: int, goal_rate: float) -> float | None:
    """Standard error of the logarithm of a size, by resampling the images of the source.

    The size is where the rate crosses the goal. The rate of n images has the error sqrt(g (1 - g) / n); divided by how
    fast it rises with the logarithm of the size, from half the goal on, that is the error of the logarithm.

    Returns:
        None where the trajectory does not rise.
    """
    sizes, rates = pair.trajectory.sizes, pair.trajectory.rates
    if num_images < 1 or len(sizes) < 2:
        return None
    late = [(math.log(s), rate) for s, rate in zip(sizes, rates, strict=True) if s > 0 and rate >= goal_rate / 2]
    slope = _slope(late)
    if slope is None and sizes[-1] > sizes[-2]:
        slope = sizes[-1] * (rates[-1] - rates[-2]) / (sizes[-1] - sizes[-2])
    return math.sqrt(goal_rate * (1 - goal_rate) / num_images) / slope if slope and slope > 0 else None


def _slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Of the line through some points by least squares; None where they are fewer than two places."""
    centre = sum(x for x, _ in points) / max(len(points), 1)
    width = sum((x - centre) ** 2 for x, _ in points)
    return sum((x - centre) * y for x, y in points) / width if width > 0 else None


def only_after(before: ScanResult, after: ScanResult) -> tuple[Pair, ...]:
    """Pairs that the second model confuses on clean images and the first does not."""
    return tuple(sorted(confused_pairs(after.pairs).keys() - confused_pairs(before.pairs).keys()))


@dataclass(frozen=True, slots=True)
class _Rule:
    old: _Side
    new: _Side
    spread: float
    num_tests: int
    terms: Terms
    median_size: float

    def judge(self, pair: Pair, log: float) -> ComparedPair:
        """One pair, from the logarithm of how much easier it became than the others."""
        t = log / self.spread if self.spread > 0 else math.copysign(math.inf, log) if log else 0.0
        p_value = min(1.0, float(stdtr(self.terms.degrees, -t)) * self.num_tests * self.terms.num_spaces)
        before, after = self.old.errors[pair], self.new.errors[pair]
        error = None if before is None or after is None else math.hypot(before, after)
        found = self.new.pairs[pair]
        beyond_images = error is not None and log > error * self._most_errors()
        is_short = found.status is PairStatus.REACHED and _size(found) < self.median_size
        return ComparedPair(
            source=pair[0],
            target=pair[1],
            size_before=_size(self.old.pairs[pair]),
            size_after=_size(found),
            ratio=math.exp(-log),
            t=max(-1e9, min(t, 1e9)),
            error=error,
            p_value=p_value,
            is_new=p_value <= self.terms.significance and beyond_images and is_short,
        )

    def _most_errors(self) -> float:
        """Standard errors that the largest of all pairs may lie off by resampling alone."""
        return -NormalDist().inv_cdf(self.terms.significance / (self.num_tests * self.terms.num_spaces))


def _side(result: ScanResult, detector: str) -> _Side:
    searched = [pair for pair in result.pairs if pair.detector == detector]
    confused = confused_pairs(searched)
    pairs = {(p.source, p.target): p for p in searched if p.size and (p.source, p.target) not in confused}
    counts: Sequence[int] = result.data.images_per_class if result.data else ()
    goal = float(result.config.get("goal_rate", 0.8))
    errors = {key: size_error(pair, counts[key[0]] if key[0] < len(counts) else 0, goal) for key, pair in pairs.items()}
    return _Side(pairs, errors)


def _size(pair: PairResult) -> float:
    assert pair.size is not None  # noqa: S101 - only pairs with a size are kept
    return pair.size
