"""False alarms of the test on a screened search, on simulated models without a backdoor.

Reciprocals are independent and of the fitted family, as the calibration assumes. A screen that misses nothing is the
worst case for false alarms: the largest of all pairs is judged. One whose look says less misses some of the largest,
which can only make alarms rarer; how much its looks say is the correlation of their logarithm with that of the size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backscan.scanner.inference.order_test import Screened, Terms, assess
from backscan.scanner.inference.variants import positions
from backscan.scanner.results import Pair
from backscan.scanner.search.screening import choose, draw
from benchmarks.levels.calibration import SIGNIFICANCE, ideal, ideal_inverse_gaussian

Matrix = NDArray[np.float64]

NULLS: Mapping[str, Callable[[np.random.Generator, int], Matrix]] = {
    "inverse-gaussian": ideal_inverse_gaussian,
    "gamma": ideal,
}
"""Reciprocals of each null family, which is also the one that is fitted."""
DRAWS = 199
"""Bootstrap draws of each test."""


CASES = (
    ("inverse-gaussian", 43, 1.0),
    ("inverse-gaussian", 43, 0.7),
    ("gamma", 43, 1.0),
    ("gamma", 43, 0.7),
    ("inverse-gaussian", 100, 1.0),
    ("inverse-gaussian", 100, 0.7),
)
"""What is simulated: null family, classes K, and the correlation of looks with sizes; 1 misses nothing."""


def simulate(family: str, num_classes: int, correlation: float, num_nulls: int) -> dict[str, Any]:
    """Test simulated models, each from a seed of its own.

    Args:
        family: Name in `NULLS`.
        num_classes: Classes K.
        correlation: Of the look with the size.
        num_nulls: Simulated models.

    Returns:
        These, the tests with a calibrated p-value of at most 0.05, and the models whose largest reciprocal was among
        the searched pairs.
    """
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
    return {
        "family": family,
        "num_classes": num_classes,
        "correlation": correlation,
        "num_nulls": num_nulls,
        "alarms": alarms,
        "largest_seen": largest_seen,
    }


def _chosen(reciprocals: Matrix, correlation: float, pairs: list[Pair], rng: np.random.Generator) -> set[Pair]:
    """The pairs that looks of some correlation with the sizes choose."""
    logarithms = -np.log(reciprocals)
    noise = np.nanstd(logarithms) * np.sqrt(1.0 / correlation**2 - 1.0)
    looks = np.exp(logarithms + noise * rng.normal(size=logarithms.shape))
    return choose({pair: float(looks[pair]) for pair in pairs}, len(reciprocals))
