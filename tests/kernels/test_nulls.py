"""Null families: tails and densities against scipy.stats, fits against scipy.optimize, and the boundary exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from backscan.kernels.nulls import NULL_FAMILIES, FitStatus
from backscan.kernels.truncated import fit_truncated, moments

TRUE = {"gamma": (2.5, 1.3), "exponential": (0.7,), "inverse-gaussian": (1.2, 4.0)}
DISTRIBUTIONS = {
    "gamma": lambda shape, scale: stats.gamma(shape, scale=scale),
    "exponential": lambda scale: stats.expon(scale=scale),
    "inverse-gaussian": lambda mean, shape: stats.invgauss(mean / shape, scale=shape),
}
FREE = math.nan

every_family = pytest.mark.parametrize("name", NULL_FAMILIES)


def truncated_sample(name, num_values, num_excluded, seed, parameters=None):
    """Sorted draws without the largest ones, and the smallest of those."""
    rng = np.random.default_rng(seed)
    values = np.sort(NULL_FAMILIES[name].sample(rng, parameters or TRUE[name], (num_values,)))
    kept = num_values - num_excluded
    return values[:kept], values[kept]


def fit_one(name, values, cutoff):
    fits = NULL_FAMILIES[name].fit(values[None], None if cutoff is None else np.array([cutoff]))
    return fits.parameters[0], FitStatus(fits.statuses[0])


def log_likelihood(name, parameters, values, cutoff):
    """Conditional log-likelihood by scipy."""
    distribution = DISTRIBUTIONS[name](*parameters)
    return distribution.logpdf(values).sum() - len(values) * distribution.logcdf(cutoff)


@every_family
def test_every_family_is_tried_here(name):
    assert name in TRUE
    assert name in DISTRIBUTIONS


@every_family
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_tail_and_density_are_those_of_scipy(name, scale):
    family = NULL_FAMILIES[name]
    scaled = {"gamma": (2.5, 1.3 * scale), "exponential": (0.7 * scale,), "inverse-gaussian": (1.2 * scale, 4 * scale)}
    oracle = DISTRIBUTIONS[name](*scaled[name])
    values = scale * np.geomspace(0.01, 200.0, 60)
    # scipy's own inverse Gaussian tail subtracts, so it is compared where that is harmless
    tail = oracle.sf(values) > (1e-8 if name == "inverse-gaussian" else 1e-300)
    ours = np.array([family.sf(value, scaled[name]) for value in values])
    np.testing.assert_allclose(ours[tail], oracle.sf(values)[tail], rtol=1e-10)
    np.testing.assert_allclose([family.cdf(v, scaled[name]) for v in values], oracle.cdf(values), rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(family.log_pdf(values, scaled[name]), oracle.logpdf(values), rtol=1e-11, atol=1e-11)


def test_far_tail_of_the_inverse_gaussian():
    exact = [-29.640066054295604, -282.96154673488903, -27789.854125185864]  # mpmath, 80 digits
    tails = NULL_FAMILIES["inverse-gaussian"].log_sf(np.array([20.0, 200.0, 20_000.0]), np.array([[1.2, 4.0]] * 3))
    np.testing.assert_allclose(tails, exact, rtol=1e-12)


@every_family
def test_quantile_inverts_the_tail(name):
    family = NULL_FAMILIES[name]
    log_sfs = np.array([-1e-3, -1.0, -30.0, -5000.0])
    values = family.quantiles(log_sfs, TRUE[name])
    np.testing.assert_allclose(family.log_sf(values, np.array([TRUE[name]] * 4)), log_sfs, rtol=1e-9)


@every_family
def test_draws_follow_the_family(name):
    draws = NULL_FAMILIES[name].sample(np.random.default_rng(4), TRUE[name], (4000,))
    assert stats.kstest(draws, DISTRIBUTIONS[name](*TRUE[name]).cdf).pvalue > 0.01


@every_family
@pytest.mark.parametrize("num_classes", [5, 10, 20])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_truncated_fit_is_the_maximum_that_scipy_finds(name, num_classes, seed):
    values, cutoff = truncated_sample(name, num_classes * (num_classes - 1), num_classes - 1, seed)
    parameters, status = fit_one(name, values, cutoff)
    assert status == FitStatus.REACHED, "chosen so that the likelihood has its maximum inside the family"

    def loss(log_parameters):
        return -log_likelihood(name, np.exp(log_parameters), values, cutoff) / len(values)

    ours = -loss(np.log(parameters))
    options = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000, "maxfev": 4000}
    best = optimize.minimize(loss, np.log(parameters) + 0.05, method="Nelder-Mead", options=options)
    assert ours >= -best.fun - 1e-12
    np.testing.assert_allclose(parameters, np.exp(best.x), rtol=2e-4)


@every_family
def test_truncated_fit_recovers_the_parameters(name):
    values, cutoff = truncated_sample(name, 40_000, 4_000, seed=0)
    parameters, status = fit_one(name, values, cutoff)
    assert status == FitStatus.REACHED
    np.testing.assert_allclose(parameters, TRUE[name], rtol=0.05)


@every_family
def test_complete_fit_is_the_one_of_scipy(name):
    values = NULL_FAMILIES[name].sample(np.random.default_rng(7), TRUE[name], (400,))
    parameters, status = fit_one(name, values, None)
    expected = {
        "gamma": lambda: stats.gamma.fit(values, floc=0)[::2],
        "exponential": lambda: (values.mean(),),
        "inverse-gaussian": lambda: (values.mean(), stats.invgauss.fit(values, floc=0)[2]),
    }[name]()
    assert status == FitStatus.REACHED
    np.testing.assert_allclose(parameters, expected, rtol=1e-7)


@every_family
def test_naive_fit_of_a_truncated_sample_is_biased(name):
    values, cutoff = truncated_sample(name, 40_000, 4_000, seed=0)
    naive = DISTRIBUTIONS[name](*fit_one(name, values, None)[0])
    conditional = DISTRIBUTIONS[name](*fit_one(name, values, cutoff)[0])
    assert naive.sf(2 * cutoff) < 0.5 * conditional.sf(2 * cutoff)


@settings(deadline=None)
@given(
    name=st.sampled_from(sorted(NULL_FAMILIES)),
    seed=st.integers(0, 10_000),
    exponent=st.integers(-250, 250),
    num_classes=st.integers(3, 12),
)
def test_fit_is_invariant_to_scaling(name, seed, exponent, num_classes):
    values, cutoff = truncated_sample(name, num_classes * (num_classes - 1), num_classes - 1, seed)
    scale = 10.0**exponent
    parameters, status = fit_one(name, values, cutoff)
    scaled, scaled_status = fit_one(name, values * scale, cutoff * scale)
    assert scaled_status == status
    scales = {"gamma": (1.0, scale), "exponential": (scale,), "inverse-gaussian": (scale, scale)}[name]
    np.testing.assert_allclose(scaled, parameters * np.array(scales), rtol=1e-5)


@settings(deadline=None)
@given(
    shape=st.floats(0.05, 5e4),
    seed=st.integers(0, 10_000),
    num_classes=st.integers(4, 15),
    outlier=st.floats(1.0, 1e6),
)
def test_gamma_fit_never_fails_on_reciprocals_that_differ(shape, seed, num_classes, outlier):
    values, cutoff = truncated_sample("gamma", num_classes * (num_classes - 1), num_classes - 1, seed, (shape, 1.0))
    parameters, status = fit_one("gamma", values, cutoff * outlier)
    assert status in (FitStatus.REACHED, FitStatus.BOUNDARY)
    assert np.all(parameters > 0.0)


# With u = reciprocal / cutoff the likelihood has no maximum exactly when the mean of u is large enough.


def statuses(means, *, mean_log=-1.0, mean_inverse=4.0, power=FREE, inverse=0.0):
    summaries = np.array([[mean_log, mean_inverse, mean] for mean in means])
    return fit_truncated(summaries, power, inverse)[:, 3].tolist()


@pytest.mark.parametrize("mean_log", [-3.0, -1.0, -0.3, -0.01])
def test_boundary_of_gamma(mean_log):
    k0 = -1.0 / mean_log
    edge = k0 / (k0 + 1.0)
    found = statuses([edge, edge * (1 + 1e-9), edge * (1 - 1e-6)], mean_log=mean_log)
    assert found == [FitStatus.BOUNDARY, FitStatus.BOUNDARY, FitStatus.REACHED]


def test_boundary_of_the_exponential():
    found = statuses([0.5, 0.51, 0.499], power=1.0)
    assert found == [FitStatus.BOUNDARY, FitStatus.BOUNDARY, FitStatus.REACHED]


@pytest.mark.parametrize("mean_inverse", [1.2, 2.0, 5.0, 50.0])
def test_boundary_of_the_inverse_gaussian(mean_inverse):
    # the truncated Levy density with this mean of 1/u, by scipy
    def excess(log_inverse):
        return levy_mean(-1.0, math.exp(log_inverse)) - mean_inverse

    inverse = math.exp(optimize.brentq(excess, -9.0, 4.0, xtol=1e-14))
    edge = levy_mean(1.0, inverse)
    found = statuses(
        [edge * (1 + 1e-6), edge * (1 - 1e-6)], mean_log=-5.0, mean_inverse=mean_inverse, power=-0.5, inverse=FREE
    )
    assert found == [FitStatus.BOUNDARY, FitStatus.REACHED]


def test_gamma_likelihood_grows_without_end_at_the_boundary():
    values, cutoff = np.array([0.2, 0.9, 0.95, 0.97]), 1.0
    assert fit_one("gamma", values, cutoff)[1] == FitStatus.BOUNDARY
    k0 = -1.0 / np.log(values).mean()
    rising = [log_likelihood("gamma", (k0, scale), values, cutoff) for scale in (1.0, 10.0, 100.0, 1000.0)]
    assert rising == sorted(rising)


@pytest.mark.parametrize(
    ("num_classes", "shape", "low", "high"),
    [(3, 5.0, 0.06, 0.10), (3, 10.0, 0.045, 0.10), (5, 3.0, 0.01, 0.035), (5, 5.0, 0.01, 0.03), (10, 5.0, 0, 0)],
)
def test_how_often_ideal_nulls_end_at_the_boundary(num_classes, shape, low, high):
    rng = np.random.default_rng(11)
    rows = np.sort(rng.gamma(shape, size=(4000, num_classes * (num_classes - 1))), axis=1)
    kept = (num_classes - 1) ** 2
    fits = NULL_FAMILIES["gamma"].fit(rows[:, :kept], rows[:, kept].copy())
    assert low <= np.mean(fits.statuses == FitStatus.BOUNDARY) <= high
    assert not np.any(fits.statuses == FitStatus.FAILED)


def levy_mean(power, inverse):
    """E[u^power] of the density u^(-3/2) exp(-inverse / u) on (0, 1], by quadrature in 1 / sqrt(u)."""
    x = np.linspace(1.0, 1.0 + 12.0 / math.sqrt(inverse), 400_001)
    weights = np.exp(-inverse * (x * x - 1.0))
    return np.trapezoid(weights * x ** (-2.0 * power), x) / np.trapezoid(weights, x)


@every_family
@pytest.mark.parametrize("values", [[1.0], [0.5] * 8, [0.5, 0.5 * (1 + 1e-7)] * 4], ids=["one", "equal", "nearly"])
def test_reciprocals_that_do_not_differ_fail(name, values):
    for cutoff in (2.0, None):
        parameters, status = fit_one(name, np.array(values), cutoff)
        assert status == FitStatus.FAILED
        assert np.all(np.isnan(parameters))


@every_family
@pytest.mark.parametrize("odd", [0.0, -1.0, math.inf, math.nan, 1e-320])
def test_values_that_are_no_reciprocals_fail(name, odd):
    for cutoff in (2.0, None):
        with np.errstate(all="ignore"):
            status = fit_one(name, np.array([odd, 0.5, 0.9, 1.1, 1.4]), cutoff)[1]
        assert status == FitStatus.FAILED


def test_boundary_keeps_what_is_finite():
    parameters, status = fit_one("gamma", np.array([0.2, 0.9, 0.95, 0.97]), 1.0)
    assert status == FitStatus.BOUNDARY
    assert parameters[0] == pytest.approx(-1.0 / np.log([0.2, 0.9, 0.95, 0.97]).mean())
    assert parameters[1] == math.inf


# The quadrature behind the fits, against closed forms.


@pytest.mark.parametrize("power", [0.05, 0.3, 1.0, 4.0, 300.0])
def test_moments_of_the_power_law(power):
    log_normaliser, mean_log, mean, variance_log, _, variance = moments(power, 0.0, 0.0, False)
    assert log_normaliser == pytest.approx(-math.log(power), rel=1e-11, abs=1e-11)
    assert mean_log == pytest.approx(-1.0 / power, rel=1e-10)
    assert mean == pytest.approx(power / (power + 1.0), rel=1e-11)
    assert variance_log == pytest.approx(power**-2, rel=1e-8)
    assert variance == pytest.approx(power / (power + 1.0) ** 2 / (power + 2.0), rel=1e-5)


@pytest.mark.parametrize("power", [0.2, 1.0, 5.0, 80.0])
@pytest.mark.parametrize("rate", [0.05, 1.0, 20.0, 300.0])
def test_moments_of_the_truncated_gamma(power, rate):
    log_normaliser, _, mean, _, _, _ = moments(power, 0.0, rate, False)
    log_cdf = stats.gamma.logcdf(1.0, [power, power + 1.0], scale=1.0 / rate)
    closed = log_cdf[0] + math.lgamma(power) - power * math.log(rate)
    ratio = math.exp(log_cdf[1] - log_cdf[0])
    assert log_normaliser == pytest.approx(closed, rel=1e-10, abs=1e-10)
    assert mean == pytest.approx(ratio * power / rate, rel=1e-9)


@pytest.mark.parametrize("inverse", [1e-3, 0.2, 3.0, 200.0])
@pytest.mark.parametrize("rate", [1e-2, 2.0, 150.0])
def test_moments_of_the_truncated_inverse_gaussian(inverse, rate):
    log_normaliser = moments(-0.5, inverse, rate, True)[0]
    scale, mu = 2.0 * inverse, 1.0 / (2.0 * math.sqrt(inverse * rate))
    closed = stats.invgauss.logcdf(1.0, mu, scale=scale) - 2.0 * math.sqrt(inverse * rate)
    assert log_normaliser == pytest.approx(closed + 0.5 * math.log(math.pi / inverse), rel=1e-10, abs=1e-9)


@pytest.mark.parametrize("point", [(2.0, 0.0, 3.0, False), (-0.5, 1.5, 2.0, True), (-0.5, 0.3, 0.0, True)])
def test_moments_are_derivatives_of_the_normaliser(point):
    power, inverse, rate, of_inverse = point
    _, statistic, mean, _, _, _ = moments(*point)
    h = 1e-5

    def log_normaliser(shape_step, rate_step):
        shifted = (power, inverse + shape_step) if of_inverse else (power + shape_step, inverse)
        return moments(*shifted, rate + rate_step, of_inverse)[0]

    # one-sided in the rate, which must not be negative
    slope = (4 * log_normaliser(0, h) - 3 * log_normaliser(0, 0) - log_normaliser(0, 2 * h)) / (2 * h)
    assert (log_normaliser(h, 0) - log_normaliser(-h, 0)) / (2 * h) == pytest.approx(statistic, rel=1e-7)
    assert -slope == pytest.approx(mean, rel=1e-6)
