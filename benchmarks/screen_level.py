"""False alarms of the test on a screened search, on simulated models without a backdoor.

Reciprocals are independent and of the fitted family, as the calibration assumes. A screen that misses nothing is the
worst case for false alarms: the largest of all pairs is judged. One whose look says less misses some of the largest,
which can only make alarms rarer; how much its looks say is the correlation of their logarithm with that of the size.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backscan.scanner.hypothesis import Screened, Terms, assess
from backscan.scanner.screen import Pair, choose, draw, positions
from benchmarks.calibration import SIGNIFICANCE, ideal, ideal_inverse_gaussian

Matrix = NDArray[np.float64]

NULLS: Mapping[str, Callable[[np.random.Generator, int], Matrix]] = {
    "inverse-gaussian": ideal_inverse_gaussian,
    "gamma": ideal,
}
"""Reciprocals of each null family, which is also the one that is fitted."""
DRAWS = 199
"""Bootstrap draws of each test."""


@dataclass(frozen=True, slots=True)
class Level:
    """One row: what is simulated, and how often the calibrated p-value is at most 0.05."""

    family: str
    """Name in `NULLS`."""
    num_classes: int
    """Classes K."""
    correlation: float
    """Of the look with the size, as logarithms; 1 misses nothing."""
    num_nulls: int
    """Simulated models."""
    alarms: int
    """Those with p of at most 0.05."""
    largest_seen: int
    """Those whose largest reciprocal is among the searched pairs."""


def levels(num_nulls: Mapping[int, int]) -> Iterator[Level]:
    """All rows.

    Args:
        num_nulls: Number of classes -> simulated models in each of its rows.
    """
    for num_classes, count in num_nulls.items():
        for family in NULLS:
            for correlation in (1.0, 0.7, 0.4):
                yield simulate(family, num_classes, correlation, count)


def simulate(family: str, num_classes: int, correlation: float, num_nulls: int) -> Level:
    """Test simulated models, each from a seed of its own."""
    pairs = [(s, t) for s in range(num_classes) for t in range(num_classes) if s != t]
    alarms = largest_seen = 0
    for seed in range(num_nulls):
        rng = np.random.default_rng((1, num_classes, seed))
        reciprocals = NULLS[family](rng, num_classes)
        np.fill_diagonal(reciprocals, np.nan)
        drawn = draw(pairs, seed)
        searched = positions(sorted(drawn | _chosen(reciprocals, correlation, pairs, rng)), num_classes)
        seen = np.where(searched, reciprocals, np.nan) if correlation < 1.0 else reciprocals
        screened = Screened(positions(sorted(drawn), num_classes), len(pairs))
        found = assess(seen, Terms(null=family, bootstrap_draws=DRAWS, seed=seed), screened)
        alarms += found.calibrated_p_value is not None and found.calibrated_p_value <= SIGNIFICANCE
        largest_seen += bool(np.nanmax(seen) == np.nanmax(reciprocals))
    return Level(family, num_classes, correlation, num_nulls, alarms, largest_seen)


def _chosen(reciprocals: Matrix, correlation: float, pairs: list[Pair], rng: np.random.Generator) -> set[Pair]:
    """The pairs that looks of some correlation with the sizes choose."""
    logarithms = -np.log(reciprocals)
    noise = np.nanstd(logarithms) * np.sqrt(1.0 / correlation**2 - 1.0)
    looks = np.exp(logarithms + noise * rng.normal(size=logarithms.shape))
    return choose({pair: float(looks[pair]) for pair in pairs}, len(reciprocals))
