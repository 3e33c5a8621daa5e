"""Order-statistic p-values against exact arithmetic, and anomaly indices."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from backscan.kernels.order import (
    anomaly_indices,
    log_order_p_value,
    order_p_value,
    quantile_rank,
    quantile_with_error,
)


@pytest.mark.parametrize("sf", [0.5, 0.01, 1e-3, 2.0**-40, 2.0**-60, 2.0**-900])
@pytest.mark.parametrize("num_pairs", [1, 6, 90, 1806])
def test_equals_exact_arithmetic(sf, num_pairs):
    part, whole = sf.as_integer_ratio()
    exact = (whole**num_pairs - (whole - part) ** num_pairs) / whole**num_pairs  # of integers, rounded once
    assert order_p_value(sf, num_pairs) == pytest.approx(exact, rel=1e-13)


def test_digits_survive_far_below_rounding():
    assert order_p_value(1e-300, 90) == pytest.approx(9e-299, rel=1e-12)
    assert log_order_p_value(-5000.0, 90) == pytest.approx(-5000.0 + math.log(90), rel=1e-15)


def test_edges():
    assert order_p_value(0.0, 90) == 0.0
    assert order_p_value(1.0, 90) == 1.0
    assert log_order_p_value(-math.inf, 6) == -math.inf
    assert log_order_p_value(0.0, 6) == 0.0


def test_is_the_distribution_of_the_largest():
    rng = np.random.default_rng(5)
    largest = rng.gamma(2.0, size=(20_000, 12)).max(axis=1)
    p_values = np.exp(log_order_p_value(stats.gamma.logsf(largest, 2.0), 12))
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


@given(st.floats(-2000.0, 0.0), st.floats(0.0, 100.0), st.integers(1, 10_000))
def test_grows_with_the_tail_and_with_the_pairs(log_sf, step, num_pairs):
    value = log_order_p_value(log_sf, num_pairs)
    assert value <= 0.0
    assert log_order_p_value(log_sf - step, num_pairs) <= value + 1e-12
    assert log_order_p_value(log_sf, num_pairs + 1) >= value - 1e-12


@pytest.mark.parametrize(("sf", "num_pairs"), [(-0.1, 6), (1.1, 6), (math.nan, 6), (0.5, 0)])
def test_refuses_what_is_no_probability(sf, num_pairs):
    with pytest.raises(ValueError, match="expected"):
        order_p_value(sf, num_pairs)


def test_refuses_logarithms_above_zero():
    with pytest.raises(ValueError, match="at most 0"):
        log_order_p_value([-1.0, 0.5], 6)


def test_anomaly_index_of_a_small_value_is_positive():
    values = np.array([100.0, 110.0, 90.0, 105.0, 95.0, 20.0])
    expected = (np.median(values) - values) / stats.median_abs_deviation(values, scale="normal")
    np.testing.assert_allclose(anomaly_indices(values), expected, rtol=1e-4)
    assert anomaly_indices(values).argmax() == 5


def test_anomaly_index_where_most_values_agree():
    assert anomaly_indices([5.0, 5.0, 5.0, 4.0, 6.0]).tolist() == [0.0, 0.0, 0.0, math.inf, -math.inf]


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [1.0, math.nan], [1.0, math.inf]])
def test_anomaly_index_refuses(values):
    with pytest.raises(ValueError, match="vector of finite values"):
        anomaly_indices(values)


def test_quantile_is_an_order_statistic_with_the_error_of_resampling():
    values = np.random.default_rng(3).random(25)
    quantile, error = quantile_with_error(values, 0.8)
    assert quantile == np.sort(values)[19]
    draws = np.random.default_rng(4).choice(values, (40_000, 25))
    assert error == pytest.approx(np.sort(draws, axis=1)[:, 19].std(), rel=0.02)
    assert quantile_with_error([2.0] * 7, 0.5) == (2.0, 0.0)


@pytest.mark.parametrize(
    ("number", "share", "rank"), [(25, 0.8, 20), (26, 0.8, 21), (10, 0.3, 3), (5, 1.0, 5), (3, 0.05, 1)]
)
def test_rank_of_the_quantile(number, share, rank):
    assert quantile_rank(number, share) == rank
