"""Rates of pairs: the beta-binomial against scipy, the fit against an optimiser, the level by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from backscan.kernels import rates
from backscan.kernels.rates import beta_binomial_log_pmf, judge_rates


@pytest.mark.parametrize(("trials", "mean", "correlation"), [(1, 0.3, 0.2), (20, 0.05, 0.4), (40, 0.6, 0.01)])
def test_the_beta_binomial_is_that_of_scipy(trials, mean, correlation):
    total = 1 / correlation - 1
    hits = np.arange(trials + 1)
    expected = stats.betabinom.logpmf(hits, trials, mean * total, (1 - mean) * total)
    np.testing.assert_allclose(beta_binomial_log_pmf(hits, trials, mean, correlation), expected, rtol=1e-9)


def drawn(rng: np.random.Generator, mean: float, correlation: float, trials: np.ndarray) -> np.ndarray:
    total = 1 / correlation - 1
    return stats.betabinom.rvs(trials, mean * total, (1 - mean) * total, random_state=rng)


def test_tails_and_p_value_are_those_of_the_fitted_null():
    rng = np.random.default_rng(0)
    trials = rng.integers(18, 21, 90)
    hits = drawn(rng, 0.1, 0.2, trials)
    found = judge_rates(hits, trials, 9)
    total = 1 / found.correlation - 1
    expected = stats.betabinom.sf(hits - 1, trials, found.mean * total, (1 - found.mean) * total)
    np.testing.assert_allclose(found.tails, expected, rtol=1e-9)
    assert found.p_value == pytest.approx(1 - (1 - expected.min()) ** 90, rel=1e-9)
    assert (found.num_fitted, found.calibrated_p_value) == (81, None)
    assert found.cutoff == np.sort(hits / trials)[-9]


def test_no_other_null_of_the_grid_is_likelier():
    """The log-likelihood by scipy, conditional on not exceeding the cutoff, with the stated prior."""
    rng = np.random.default_rng(1)
    trials = np.full(90, 20)
    hits = np.sort(drawn(rng, 0.15, 0.1, trials))
    found = judge_rates(hits, trials, 9)

    def likelihood(mean: float, correlation: float) -> float:
        total = 1 / correlation - 1
        null = stats.betabinom(20, mean * total, (1 - mean) * total)
        prior = np.dot(rates._PRIOR, [np.log(mean), np.log(correlation), np.log1p(-correlation)])
        below = null.logcdf(round(found.cutoff * 20))
        few = stats.binom.logcdf(9, 90, -np.expm1(below))
        return float(null.logpmf(hits[:81]).sum() - 81 * below + few + prior)

    best = likelihood(found.mean, found.correlation)
    others = [likelihood(m, c) for m in rates._MEANS[20:45:2] for c in rates._CORRELATIONS[::3]]
    assert best >= max(others) - 1e-6


@pytest.mark.parametrize(
    ("mean", "correlation", "trials"), [(0.1, 0.1, 40), (0.1, 0.2, 20), (0.03, 0.2, 40), (0.2, 0.3, 40)]
)
def test_the_calibrated_p_keeps_its_level(mean, correlation, trials):
    """Simulated, at 150 matrices with 99 draws: .033, .060, .053 and .073."""
    rng = np.random.default_rng(2)
    count = np.full(90, trials)
    below = sum(
        judge_rates(drawn(rng, mean, correlation, count), count, 9, num_draws=99, rng=rng).calibrated_p_value <= 0.05
        for _ in range(100)
    )
    assert stats.binomtest(int(below), 100, 0.05, alternative="greater").pvalue > 0.01


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.1])
def test_one_pair_that_always_works_is_found_among_equal_rates(rate):
    """Below the cutoff alone, a null that puts most pairs above it would be as likely, and hide the pair."""
    hits = np.random.default_rng(0).binomial(40, rate, 90)
    hits[33] = 40
    found = judge_rates(hits, np.full(90, 40), 9, num_draws=199)
    assert found.calibrated_p_value == 0.005
    assert found.mean < 2 * rate


def test_one_pair_that_always_works_is_found_among_zeros():
    """A patch from one class to another on a network on which no ordinary content works."""
    hits, trials = np.zeros(90, np.int64), np.full(90, 40)
    hits[33] = 40
    found = judge_rates(hits, trials, 9, num_draws=999)
    assert found.tails.argmin() == 33
    assert found.calibrated_p_value == 0.001
    hits[33] = 10
    assert judge_rates(hits, trials, 9, num_draws=999).calibrated_p_value > 0.1


@pytest.mark.parametrize(("hits", "excluded"), [([1, 2, 3], 3), ([1, 2, 30], 1), ([1, 2, -1], 1)])
def test_impossible_counts_are_refused(hits, excluded):
    with pytest.raises(ValueError, match="expected"):
        judge_rates(np.array(hits), np.full(3, 20), excluded)
