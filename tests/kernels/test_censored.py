"""Fits with unknown small values against the likelihood written down with scipy, and what becomes of p-values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from backscan.kernels.bootstrap import LeftOut, bootstrap_log_p_values, calibrated_p_value, judge_extremes
from backscan.kernels.nulls import NULL_FAMILIES, FitStatus

DISTRIBUTIONS = {
    "gamma": (lambda a, b: stats.gamma(a, scale=b), (6.0, 0.2)),
    "exponential": (lambda a: stats.expon(scale=a), (0.7,)),
    "inverse-gaussian": (lambda a, b: stats.invgauss(a / b, scale=b), (1.0, 4.0)),
}


def sample(family: str, size: int = 200) -> tuple[np.ndarray, float]:
    """The smaller nine tenths of a sample, and the smallest value above them."""
    make, parameters = DISTRIBUTIONS[family]
    values = np.sort(make(*parameters).rvs(size, random_state=np.random.default_rng(5)))
    kept = size * 9 // 10
    return values[:kept], float(values[kept])


def loss(logarithms, family, values, cutoff, limit):
    law = DISTRIBUTIONS[family][0](*np.exp(logarithms))
    known = values[values > limit]
    unknown = len(values) - len(known)
    return -float(law.logpdf(known).sum() + unknown * law.logcdf(limit) - len(values) * law.logcdf(cutoff))


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
@pytest.mark.parametrize("family", sorted(DISTRIBUTIONS))
def test_fit_maximises_the_likelihood(family, share):
    values, cutoff = sample(family)
    limit = float(np.quantile(values, share))
    fits = NULL_FAMILIES[family].fit(values[None], np.array([cutoff]), limit)
    assert fits.statuses[0] == FitStatus.REACHED
    ours = loss(np.log(fits.parameters[0]), family, values, cutoff, limit)
    start = np.log(DISTRIBUTIONS[family][1])
    best = optimize.minimize(
        loss,
        start,
        args=(family, values, cutoff, limit),
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-11, "maxiter": 4000},
    )
    assert ours <= best.fun + 1e-7
    np.testing.assert_allclose(fits.parameters[0], np.exp(best.x), rtol=1e-3)


@pytest.mark.parametrize("family", sorted(DISTRIBUTIONS))
def test_only_the_number_of_unknown_values_matters(family):
    values, cutoff = sample(family)
    limit = float(np.quantile(values, 0.3))
    shrunk = np.where(values <= limit, limit, values)
    one, two = (NULL_FAMILIES[family].fit(rows[None], np.array([cutoff]), limit) for rows in (values, shrunk))
    np.testing.assert_array_equal(one.parameters, two.parameters)


def test_a_limit_below_all_values_changes_nothing():
    values, cutoff = sample("gamma")
    family = NULL_FAMILIES["gamma"]
    one, two = (family.fit(values[None], np.array([cutoff]), limit) for limit in (None, 0.5 * float(values.min())))
    np.testing.assert_array_equal(one.parameters, two.parameters)


def test_too_few_known_values_fail():
    values, cutoff = sample("gamma")
    fits = NULL_FAMILIES["gamma"].fit(values[None], np.array([cutoff]), float(values[-2]))
    assert fits.statuses[0] == FitStatus.FAILED
    with pytest.raises(ValueError, match="cutoff"):
        NULL_FAMILIES["gamma"].fit(values[None], None, 0.1)


def test_early_stops_keep_the_level_and_the_power():
    """Null matrices of ten classes, a third of the pairs stopped: rejections at 0.2; and a planted pair."""
    family, present = NULL_FAMILIES["gamma"], ~np.eye(10, dtype=bool)
    limit = float(stats.gamma(16.0, scale=1 / 16).ppf(1 / 3))
    nulls = np.random.default_rng(3).gamma(16.0, 1 / 16, (300, 90))
    draws = bootstrap_log_p_values(
        family,
        (16.0, 1 / 16),
        present=present,
        statistic=np.copy,
        left_out=LeftOut.LARGEST,
        num_draws=499,
        seed=1,
        limit=limit,
    )
    stopped = np.maximum(nulls, limit)
    p_values = [calibrated_p_value(log_p, draws) for log_p in judge_extremes(stopped, 9, family, limit).log_p_values]
    # Binomial with 300 tries at 0.2: 39 to 83 hold all but 0.2 %.
    assert 39 <= sum(p <= 0.2 for p in p_values) <= 83
    stopped[0, 0] = 4.0
    assert calibrated_p_value(float(judge_extremes(stopped[:1], 9, family, limit).log_p_values[0]), draws) == 1 / 500


def test_draws_are_stopped_as_the_observations_were():
    """Judged as if all were known, stopped values would pile up at the limit and spoil the fit."""
    family = NULL_FAMILIES["gamma"]
    values = np.maximum(np.random.default_rng(0).gamma(16.0, 1 / 16, (200, 90)), 0.9)
    right, wrong = (judge_extremes(values, 9, family, bound).fits for bound in (0.9, None))
    reached = right.statuses == FitStatus.REACHED
    assert reached.mean() > 0.95
    assert np.median(right.parameters[reached, 0]) == pytest.approx(16.0, rel=0.15)
    assert np.median(wrong.parameters[:, 0]) != pytest.approx(16.0, rel=0.5)
