"""The test of targets: known critical values, level, power where targets hide each other, and what is missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from backscan.scanner.inference.target_test import critical_value, target_test


@pytest.mark.parametrize(("num_targets", "critical"), [(10, 3.35), (43, 3.24)])
def test_critical_values(num_targets, critical):
    assert critical_value(num_targets, 0.05) == pytest.approx(critical, abs=0.06)


def test_each_target_is_judged_by_the_others():
    values = np.array([0.3, 5.0, -0.2, 0.1, 0.0, -0.4])
    test = target_test(values)
    for target in range(6):
        others = np.delete(values, target)
        expected = (values[target] - others.mean()) / (others.std(ddof=1) * math.sqrt(1 + 1 / 5))
        assert test.t[target] == pytest.approx(expected)
        assert test.tails[target] == pytest.approx(stats.t.sf(expected, 4))
    assert test.order == (1, 0, 3, 4, 2, 5)
    assert test.named == (1,)
    assert test.t[1] == pytest.approx(test.together[0])
    assert test.largest_p_value == test.p_values[1] == min(test.p_values)


def test_p_is_near_the_critical_value():
    # Nine others with mean 0 and variance 1: t is the value over sqrt(1 + 1/9).
    others = np.array([-1.0, 1.0] * 4 + [0.0])
    value = 3.35 * math.sqrt(1 + 1 / 9)
    assert target_test([*others, value]).largest_p_value == pytest.approx(0.05, abs=0.004)


@pytest.mark.parametrize("num_targets", [3, 5, 10])
def test_level(num_targets):
    rng = np.random.default_rng(num_targets)
    p_values = np.array([target_test(rng.normal(2.0, 3.0, num_targets)).p_value for _ in range(1500)])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(p_values <= level) == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 1500))


def test_attacked_targets_that_hide_each_other_are_found_together():
    rng = np.random.default_rng(1)
    tests = [target_test(rng.normal(size=10) + 5.0 * (np.arange(10) < 2)) for _ in range(200)]
    assert np.mean([test.largest_p_value <= 0.05 for test in tests]) < 0.3
    assert np.mean([test.p_value <= 0.05 for test in tests]) > 0.7
    found = [test for test in tests if test.p_value <= 0.05]
    assert np.mean([{0, 1} <= set(test.named) for test in found]) > 0.9


def test_targets_without_a_value_are_left_out():
    values = [0.1, math.nan, 4.0, 0.2, -0.1, 0.3, math.nan]
    test, fewer = target_test(values), target_test([0.1, 4.0, 0.2, -0.1, 0.3])
    assert np.isnan(test.t[[1, 6]]).all()
    assert np.isnan(test.p_values[[1, 6]]).all()
    assert test.order == (2, 5, 3, 0, 4)
    assert test.p_value == fewer.p_value
    np.testing.assert_array_equal(test.t[[0, 2, 3, 4, 5]], fewer.t)


def test_fewer_than_three_targets_say_nothing():
    test = target_test([1.0, math.nan, 2.0])
    assert test.p_value is None
    assert test.largest_p_value is None
    assert test.named == ()
    assert test.order == (2, 0)


def test_neither_unit_nor_origin_matters():
    values = np.random.default_rng(4).normal(size=10)
    one, other = target_test(values), target_test(1000.0 + 1e-3 * values)
    assert one.p_value == other.p_value
    np.testing.assert_allclose(one.t, other.t, rtol=1e-6)


def test_equal_values_stand_out_nowhere():
    test = target_test([0.5] * 10)
    assert test.p_value == 1.0
    assert set(test.t) == {0.0}
    assert test.order == tuple(range(10))


@pytest.mark.parametrize("values", [[[1.0, 2.0, 3.0]], [1.0, 2.0, math.inf]])
def test_refuses_what_is_no_value_a_target(values):
    with pytest.raises(ValueError, match="one finite value a target"):
        target_test(values)
