"""Agreement of witnesses against its definition, and its null against what is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from backscan.kernels import agreement_scores, largest_sums, normal_scores, null_of_agreement

TWO = np.array([[1.0, 0.3], [0.3, 1.0]])
ONE = np.ones((1, 1))


def score_of(values: np.ndarray, inside: list[int]) -> float:
    """Normal score of one witness for some targets, by scipy alone."""
    rest = np.delete(values, inside)
    t = (values[inside].mean() - rest.mean()) / (rest.std(ddof=1) * math.sqrt(1 / len(inside) + 1 / rest.size))
    return float(stats.norm.isf(stats.t.sf(t, rest.size - 1)))


def by_definition(values: np.ndarray, correlation: np.ndarray, inside: list[int]) -> float:
    scores = [score_of(row, inside) for row in values]
    sets = itertools.chain.from_iterable(
        itertools.combinations(range(len(values)), n) for n in range(1, len(values) + 1)
    )
    return max(sum(scores[w] for w in each) / math.sqrt(correlation[np.ix_(each, each)].sum()) for each in sets)


@pytest.mark.parametrize("size", [3, 7, 10, 43])
def test_equals_the_definition(size):
    values = np.random.default_rng(size).normal(size=(5, 2, size))
    scores, order = agreement_scores(values, TWO)
    assert scores.shape == (5, min(3, size // 3))
    for row in range(5):
        for j in range(scores.shape[1]):
            expected = by_definition(values[row], TWO, order[row, : j + 1].tolist())
            assert scores[row, j] == pytest.approx(expected, rel=1e-9)


def test_units_and_offsets_of_a_witness_do_not_matter():
    values = np.random.default_rng(0).normal(size=(1, 2, 10))
    moved = values * np.array([3.0, 0.01])[:, None] + np.array([-7.0, 100.0])[:, None]
    for one, other in zip(agreement_scores(values, TWO), agreement_scores(moved, TWO), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_permuted_targets_permute():
    values = np.random.default_rng(1).normal(size=(1, 2, 10))
    where = np.random.default_rng(2).permutation(10)
    scores, order = agreement_scores(values, TWO)
    permuted, ordered = agreement_scores(values[:, :, where], TWO)
    np.testing.assert_allclose(permuted, scores, rtol=1e-12)
    assert where[ordered[0]].tolist() == order[0].tolist()


def test_one_witness_is_not_drowned_and_two_that_half_see_add_up():
    row = np.random.default_rng(3).normal(size=10)
    row[4] = 0.0
    row /= row.std()
    quiet = np.stack([row, -row])  # as far apart on either side, but for the target
    alone, both = quiet.copy(), quiet.copy()
    alone[0, 4] += 8.0
    both[:, 4] += 4.0
    null = np.sort(null_of_agreement(10, TWO, 20_000, 0)[:, 0])
    for values in (alone, both):
        scores, order = agreement_scores(values[None], TWO)
        assert order[0, 0] == 4
        assert scores[0, 0] > np.quantile(null, 0.95)
    single = max(score_of(row, [4]) for row in both)
    assert agreement_scores(both[None], TWO)[0][0, 0] > single


def test_values_that_agree_say_nothing_and_a_lone_one_everything():
    same, lone = np.zeros((1, 2, 9)), np.zeros((1, 2, 9))
    lone[0, 0, 5] = 1.0
    assert agreement_scores(same, TWO)[0][0, 0] == 0.0
    scores, order = agreement_scores(lone, TWO)
    assert np.isfinite(scores).all()
    assert (scores[0, 0] > 20.0, order[0, 0]) == (True, 5)


def test_the_null_of_one_witness_is_that_of_grubbs():
    null = null_of_agreement(10, ONE, 50_000, 0)[:, 0]
    critical = stats.t.isf(stats.norm.sf(np.quantile(null, 0.95)), 8)
    assert critical == pytest.approx(3.35, abs=0.05)


def test_the_null_keeps_its_level_at_the_correlation_it_is_for():
    first, second = (null_of_agreement(10, TWO, 10_000, seed)[:, 0] for seed in (0, 1))
    share = float(np.mean(first >= np.quantile(second, 0.95)))
    assert share == pytest.approx(0.05, abs=0.01)
    # Witnesses that go together more than that alarm more often.
    closer = np.array([[1.0, 0.95], [0.95, 1.0]])
    draws = np.linalg.cholesky(closer) @ np.random.default_rng(5).normal(size=(10_000, 2, 10))
    assert np.mean(agreement_scores(draws, TWO)[0][:, 0] >= np.quantile(second, 0.95)) > 0.06


def test_normal_scores_are_those_of_scipy():
    t = np.array([-6.0, -0.5, 0.0, 0.5, 6.0])
    np.testing.assert_allclose(normal_scores(t, 8), stats.norm.isf(stats.t.sf(t, 8)), atol=1e-9)


def test_largest_sums_look_at_every_set():
    scores = np.array([[3.0, -1.0, 1.0], [0.0, 2.0, 1.0]])
    expected = [3.0, 2.0, 2.0 / math.sqrt(2.6)]
    np.testing.assert_allclose(largest_sums(scores, TWO), expected)


def test_two_targets_are_too_few():
    with pytest.raises(ValueError, match="at least 3 values"):
        agreement_scores(np.ones((1, 2, 2)), TWO)
