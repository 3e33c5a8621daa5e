"""The test of section 3.1.3 on many samples, and its bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from backscan.kernels.bootstrap import (
    LeftOut,
    bootstrap_log_p_values,
    calibrated_p_value,
    count_excluded,
    judge_extremes,
    judge_targets_apart,
)
from backscan.kernels.nulls import NULL_FAMILIES, FitStatus

GAMMA = NULL_FAMILIES["gamma"]
FOUR = ~np.eye(4, dtype=bool)


def draws(**changes):
    terms = {
        "present": ~np.eye(10, dtype=bool),
        "statistic": np.copy,
        "left_out": LeftOut.LARGEST,
        "num_draws": 150,
        "seed": 5,
    }
    return bootstrap_log_p_values(GAMMA, (3.0, 1.0), **(terms | changes))


def test_excluded_are_all_pairs_of_one_target():
    assert count_excluded(FOUR) == 3
    assert count_excluded(~np.eye(43, dtype=bool)) == 42


def test_excluded_count_where_most_pairs_remain():
    present = FOUR.copy()
    present[0, 1] = present[2, 1] = False  # target 1 keeps one pair, the others three
    assert count_excluded(present) == 3


def test_excluded_a_class_without_images_is_no_source():
    present = FOUR.copy()
    present[2] = False  # targets other than 2 lose a pair, target 2 none
    assert count_excluded(present) == 3


def test_excluded_single_target():
    present = np.zeros((4, 4), dtype=bool)
    present[:3, 3] = True
    assert count_excluded(present) == 3


def test_excluded_no_pair():
    assert count_excluded(np.zeros((4, 4), dtype=bool)) == 0


ROWS = np.random.default_rng(0).gamma(3.0, size=(5, 90))


def test_is_the_procedure_of_the_paper():
    tests = judge_extremes(ROWS, 9, GAMMA)
    for row, fit, log_p in zip(ROWS, tests.fits.parameters, tests.log_p_values, strict=True):
        ordered = np.sort(row)
        expected = GAMMA.fit(ordered[None, :81], ordered[81:82]).parameters[0]
        np.testing.assert_allclose(fit, expected, rtol=1e-9)
        sf = stats.gamma.sf(ordered[-1], fit[0], scale=fit[1])
        assert math.exp(log_p) == pytest.approx(1.0 - (1.0 - sf) ** 90, rel=1e-8)
    np.testing.assert_array_equal(tests.cutoffs, np.sort(ROWS, axis=1)[:, 81])
    np.testing.assert_array_equal(tests.largest, ROWS.max(axis=1))
    assert tests.num_fitted == 81


def test_naive_fits_all():
    tests = judge_extremes(ROWS, 0, GAMMA)
    shape, _, scale = stats.gamma.fit(ROWS[0], floc=0)
    np.testing.assert_allclose(tests.fits.parameters[0], (shape, scale), rtol=1e-6)
    assert tests.cutoffs is None
    assert tests.num_fitted == 90


def test_larger_extreme_has_smaller_p():
    rows = np.repeat(ROWS[:1], 4, axis=0)
    rows[:, np.argmax(rows[0])] = [12.0, 15.0, 50.0, 5000.0]
    log_p = judge_extremes(rows, 9, GAMMA).log_p_values
    assert np.all(np.diff(log_p) < 0.0)
    assert log_p[-1] < -1000.0  # digits remain far below the smallest number


def test_boundary_has_p_of_one():
    row = np.array([[0.2, 0.9, 0.95, 0.97, 1.0, 40.0]])
    tests = judge_extremes(row, 2, GAMMA)
    assert tests.fits.statuses[0] == FitStatus.BOUNDARY
    assert tests.log_p_values[0] == 0.0


@pytest.mark.parametrize(("num_pairs", "num_excluded"), [(2, 1), (3, 3), (1, 1)])
def test_too_few_to_fit(num_pairs, num_excluded):
    tests = judge_extremes(ROWS[:1, :num_pairs], num_excluded, GAMMA)
    assert tests.fits.statuses[0] == FitStatus.FAILED
    assert tests.log_p_values[0] == 0.0


def test_threads_change_nothing():
    np.testing.assert_array_equal(draws(threads=1), draws(threads=3))


def test_more_draws_begin_with_the_same_ones():
    np.testing.assert_array_equal(draws(num_draws=150)[:128], draws(num_draws=300)[:128])


def test_seeds_differ():
    assert not np.any(draws(seed=5) == draws(seed=6))


def test_scale_changes_nothing():
    terms = {"present": FOUR, "statistic": np.copy, "left_out": LeftOut.LARGEST, "num_draws": 50, "seed": 1}
    small = bootstrap_log_p_values(GAMMA, (3.0, 1e-9), **terms)
    large = bootstrap_log_p_values(GAMMA, (3.0, 1e9), **terms)
    np.testing.assert_allclose(small, large, rtol=1e-6, atol=1e-9)


def test_statistic_sees_missing_pairs_as_nan():
    present = FOUR.copy()
    present[0, 1] = False

    def statistic(matrices):
        np.testing.assert_array_equal(np.isnan(matrices), np.broadcast_to(~present, matrices.shape))
        return matrices

    assert draws(present=present, statistic=statistic).shape == (150,)


def test_plug_in_p_fires_too_often_with_few_classes():
    # issue 2: 24-35 % of ideal nulls at K = 5, 9-13 % at K = 10, 9 % at K = 20
    rates = [
        np.mean(draws(present=~np.eye(num_classes, dtype=bool), num_draws=2000) < math.log(0.05))
        for num_classes in (5, 10, 20)
    ]
    assert 0.24 <= rates[0] <= 0.35
    assert 0.09 <= rates[1] <= 0.14
    assert 0.06 <= rates[2] <= 0.10


def test_calibrated_p_counts_the_observation():
    log_p_draws = np.log([0.5, 0.01, 0.2, 0.03])
    assert calibrated_p_value(math.log(0.001), log_p_draws) == 1 / 5
    assert calibrated_p_value(math.log(0.03), log_p_draws) == 3 / 5
    assert calibrated_p_value(0.0, log_p_draws) == 1.0


def test_targets_apart_are_judged_by_the_others():
    """Against scipy: a Gamma of free shape fitted to all other columns, and two order statistics, one in the other."""
    values = np.full((2, 5, 5), np.nan)
    values[:, ~np.eye(5, dtype=bool)] = np.random.default_rng(4).gamma(6.0, size=(2, 20))
    values[1, :, 3] *= 2.5
    tests, targets = judge_targets_apart(values, GAMMA)
    for matrix, log_p, target, largest, fit in zip(
        values, tests.log_p_values, targets, tests.largest, tests.fits.parameters, strict=True
    ):
        each = []
        for column in range(5):
            others = np.delete(matrix, column, axis=1)
            shape, _, scale = stats.gamma.fit(others[~np.isnan(others)], floc=0)
            each.append(1 - stats.gamma(shape, scale=scale).cdf(np.nanmax(matrix[:, column])) ** 4)
            if column == target:
                assert fit == pytest.approx((shape, scale), rel=1e-4)
        assert target == np.argmin(each)
        assert largest == np.nanmax(matrix[:, target])
        assert log_p == pytest.approx(np.log(1 - (1 - min(each)) ** 5), rel=1e-4)
    assert targets[1] == 3


def test_target_that_fills_its_column_does_not_spoil_its_own_null():
    """A whole column is ten times as large: the naive null bends towards it and sees a tenth of that."""
    values = np.full((1, 10, 10), np.nan)
    values[:, ~np.eye(10, dtype=bool)] = np.random.default_rng(5).gamma(8.0, size=(1, 90))
    values[0, :, 2] *= 10
    apart, targets = judge_targets_apart(values, GAMMA)
    naive = judge_extremes(values[:, ~np.isnan(values[0])], 0, GAMMA)
    assert targets.tolist() == [2]
    assert apart.log_p_values[0] < 10 * naive.log_p_values[0] < 10 * np.log(0.01)


def test_targets_apart_are_calibrated_by_the_bootstrap():
    """P-values of 200 nulls among draws of the same null are uniform, missing pairs included."""
    present = ~np.eye(6, dtype=bool)
    present[0, 1:4] = False
    rng = np.random.default_rng(7)
    nulls = np.full((200, 6, 6), np.nan)
    nulls[:, present] = rng.gamma(3.0, size=(200, int(present.sum())))
    log_p_draws = draws(present=present, left_out=LeftOut.TARGET, num_draws=999)
    log_p_values = judge_targets_apart(nulls, GAMMA)[0].log_p_values
    p_values = [calibrated_p_value(log_p, log_p_draws) for log_p in log_p_values]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
