"""Speed of the compiled numerics.

    python -m pytest benchmarks/speed/test_kernels.py

Newton steps are the same on every machine and compared exactly. Times are compared with the same task done by scipy
in the same run, with a wide band: what is asked for is a fraction of what was measured on one core (in brackets).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture
from scipy import optimize, stats

from backscan.kernels.bootstrap import LeftOut, bootstrap_log_p_values, judge_extremes
from backscan.kernels.confusion import size_offset
from backscan.kernels.nulls import NULL_FAMILIES, FitStatus

Vector = NDArray[np.float64]

DRAWS = 999
SHAPE = 5.0
COUNTS = {
    ("gamma", 10): (6110, 0),
    ("gamma", 43): (5731, 0),
    ("exponential", 10): (177, 956),
    ("inverse-gaussian", 10): (12533, 68),
}
"""Newton steps of 999 fits to Gamma samples, and how many end at the boundary, by family and number of classes."""


def samples(num_classes: int) -> NDArray[np.float64]:
    """Gamma reciprocals of 999 models, [999, K (K - 1)]."""
    return np.random.default_rng(num_classes).gamma(SHAPE, size=(DRAWS, num_classes * (num_classes - 1)))


def scipy_fit(values: Vector, cutoff: float) -> Vector:
    """The truncated Gamma fit as one would write it with scipy."""

    def loss(logarithms: Vector) -> float:
        shape, scale = np.exp(logarithms)
        conditional = stats.gamma.logpdf(values, shape, scale=scale) - stats.gamma.logcdf(cutoff, shape, scale=scale)
        return -float(conditional.sum())

    start = np.log([values.mean() ** 2 / values.var(), values.var() / values.mean()])
    return np.exp(optimize.minimize(loss, start, method="Nelder-Mead").x)


def seconds(task: Callable[[], object]) -> float:
    """Time of one call, the faster of two."""
    times = []
    for _ in range(2):
        started = time.perf_counter()
        task()
        times.append(time.perf_counter() - started)
    return min(times)


def ratio(benchmark: BenchmarkFixture, reference: float) -> float:
    """How many times faster than the reference; infinity where benchmarks are disabled."""
    measured = math.inf if benchmark.stats is None else reference / benchmark.stats.stats.min
    benchmark.extra_info["times_faster_than_scipy"] = measured
    return measured


@pytest.fixture(scope="module")
def scipy_seconds() -> dict[int, float]:
    """Time of one scipy fit, by number of classes."""
    found = {}
    for num_classes in (10, 43):
        values = np.sort(samples(num_classes)[0])
        kept = (num_classes - 1) ** 2
        found[num_classes] = seconds(lambda values=values, kept=kept: scipy_fit(values[:kept], float(values[kept])))
    return found


@pytest.mark.parametrize(("family", "num_classes"), COUNTS)
def test_refits(benchmark: BenchmarkFixture, scipy_seconds: dict[int, float], family: str, num_classes: int) -> None:
    """999 truncated fits with their p-values [gamma at K = 10: 1000 times faster than scipy]."""
    rows = samples(num_classes)
    tests = benchmark.pedantic(
        judge_extremes, args=(rows, num_classes - 1, NULL_FAMILIES[family]), rounds=5, warmup_rounds=1
    )
    steps, boundary = int(tests.fits.iterations.sum()), int(np.sum(tests.fits.statuses == FitStatus.BOUNDARY))
    benchmark.extra_info.update(newton_steps=steps, boundary=boundary)
    assert (steps, boundary) == COUNTS[family, num_classes]
    assert ratio(benchmark, DRAWS * scipy_seconds[num_classes]) > 50.0


@pytest.mark.parametrize("num_classes", [10, 43])
def test_bootstrap(benchmark: BenchmarkFixture, scipy_seconds: dict[int, float], num_classes: int) -> None:
    """The whole calibration, draws included, against the scipy fits alone."""
    log_p_values = benchmark.pedantic(
        bootstrap_log_p_values,
        args=(NULL_FAMILIES["gamma"], (SHAPE, 1.0)),
        kwargs={
            "present": ~np.eye(num_classes, dtype=bool),
            "statistic": np.copy,
            "left_out": LeftOut.LARGEST,
            "num_draws": DRAWS,
            "seed": 0,
        },
        rounds=3,
        warmup_rounds=1,
    )
    assert log_p_values.shape == (DRAWS,)
    assert ratio(benchmark, DRAWS * scipy_seconds[num_classes]) > 30.0


def test_confusion_offsets(benchmark: BenchmarkFixture) -> None:
    """The offsets of 90 pairs against a bounded scalar search over least squares."""
    sizes = np.linspace(0.0, 2.0, 16)
    rates = [0.1 + start + 0.05 * sizes**1.5 + 0.1 * sizes for start in np.linspace(0.0, 0.3, 90)]

    def residual(offset: float, rate: Vector) -> float:
        powers = (sizes + offset)[:, None] ** np.arange(1, 4)
        return float(np.sum((powers @ np.linalg.lstsq(powers, rate, rcond=None)[0] - rate) ** 2))

    def reference() -> list[float]:
        return [
            optimize.minimize_scalar(residual, args=(rate,), bounds=(0.0, 2.0), method="bounded").x for rate in rates
        ]

    offsets = benchmark.pedantic(lambda: [size_offset(sizes, rate, 3) for rate in rates], rounds=5, warmup_rounds=1)
    for rate, ours, theirs in zip(rates, offsets, reference(), strict=True):
        assert residual(ours, rate) <= residual(theirs, rate) + 1e-12
    assert ratio(benchmark, seconds(reference)) > 2.0
