"""Spacings of the largest values: at level for a heavy tail, below it for lighter ones, and outliers found."""

from __future__ import annotations

import numpy as np
import pytest

from backscan.kernels.spacings import FEWEST_VALUES, spacings_in_tail, spacings_test


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
