"""Spacings of the largest values, and the largest beside the tail of the others: levels, and outliers found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from backscan.kernels.spacings import (
    FEWEST_VALUES,
    IN_TAIL,
    log_tail_p_values,
    spacings_in_tail,
    spacings_test,
)


def p_values(draw, size: int, number: int) -> np.ndarray:
    return np.array([spacings_test(draw(size), 1999, 0)[0] for _ in range(number)])


@pytest.mark.parametrize("size", [43, 200])
def test_a_heavy_tail_is_at_level_and_lighter_ones_below(size):
    rng = np.random.default_rng(0)
    share = (p_values(lambda number: rng.standard_t(5, number), size, 600) <= 0.05).mean()
    assert 0.025 <= share <= 0.08
    for draw in (rng.standard_exponential, rng.standard_normal):
        assert (p_values(draw, size, 300) <= 0.05).mean() <= 0.05


@pytest.mark.parametrize("number", [1, 2, 3])
def test_values_far_out_are_found_together(number):
    values = np.random.default_rng(1).standard_normal(200)
    values[:number] = 14.0 + 0.1 * np.arange(number)
    p_value, found = spacings_test(values, 1999, 0)
    assert p_value < 0.01
    assert found == number


def test_where_and_how_wide_the_values_lie_is_no_matter():
    values = np.random.default_rng(2).standard_normal(100)
    told = spacings_test(values, 1999, 0)
    assert spacings_test(7.0 + 3.0 * values[::-1], 1999, 0) == pytest.approx(told)
    assert spacings_test(np.ones(100), 1999, 0)[0] == 1.0


def test_few_values_are_refused_and_a_tail_is_a_tenth_or_half():
    assert [spacings_in_tail(size) for size in (10, 43, 200, 1000)] == [5, 10, 20, 100]
    with pytest.raises(ValueError, match="expected at least 10 values to compare, found 9"):
        spacings_test(np.arange(FEWEST_VALUES - 1.0), 99, 0)


@pytest.mark.parametrize("size", [11, 89, 399])
def test_a_value_beyond_an_exponential_tail_has_the_upper_tail_of_f(size):
    rng = np.random.default_rng(3)
    others, largest = rng.standard_exponential((5, size)), np.linspace(4.0, 9.0, 5)
    ordered = np.sort(others, axis=1)[:, ::-1]
    ratio = (largest - ordered[:, IN_TAIL]) / (ordered[:, :IN_TAIL].mean(axis=1) - ordered[:, IN_TAIL])
    expected = np.minimum(1.0, IN_TAIL * 90 / size * stats.f.sf(ratio, 2, 2 * IN_TAIL))
    assert np.exp(log_tail_p_values(largest, others, 90)) == pytest.approx(expected, rel=1e-10)


def test_the_largest_of_exponential_values_is_at_level_and_of_lighter_tails_below():
    rng = np.random.default_rng(4)
    for draw, most in ((rng.standard_exponential, 0.06), (rng.standard_normal, 0.05)):
        rows = np.sort(draw((4000, 400)), axis=1)
        share = (log_tail_p_values(rows[:, -1], rows[:, :-1], 400) <= np.log(0.05)).mean()
        assert share <= most
    rows = np.sort(rng.standard_exponential((4000, 400)), axis=1)
    assert (log_tail_p_values(rows[:, -1], rows[:, :-1], 400) <= np.log(0.05)).mean() > 0.02


def test_a_tail_of_equal_values_and_a_value_within_it_have_an_answer():
    equal = np.ones((2, 30))
    assert log_tail_p_values(np.array([1.0, 2.0]), equal, 30).tolist() == [0.0, -np.inf]
    assert log_tail_p_values(np.array([-5.0]), np.random.default_rng(0).normal(size=(1, 30)), 30).tolist() == [0.0]
    with pytest.raises(ValueError, match="expected at least 11 values to compare with, found 10"):
        log_tail_p_values(np.ones(1), np.ones((1, IN_TAIL)), 10)
