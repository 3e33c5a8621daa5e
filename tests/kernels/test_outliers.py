"""The statistics of the largest values against their definition, and their nulls against what is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from backscan.kernels import largest_together, null_of_largest


def by_definition(values: np.ndarray, j: int) -> float:
    ordered = np.sort(values)[::-1]
    largest, rest = ordered[:j], ordered[j:]
    return (largest.mean() - rest.mean()) / (rest.std(ddof=1) * math.sqrt(1 / j + 1 / rest.size))


@pytest.mark.parametrize(("size", "most"), [(3, 1), (5, 1), (6, 2), (10, 3), (43, 3)])
def test_equals_the_definition(size, most):
    rows = np.random.default_rng(size).normal(size=(7, size))
    found = largest_together(rows)
    assert found.shape == (7, most)
    expected = [[by_definition(row, j) for j in range(1, most + 1)] for row in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_keeps_its_digits_beside_a_huge_value():
    rows = np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 1e9]])
    assert largest_together(rows)[0, 0] == pytest.approx(by_definition(rows[0], 1), rel=1e-12)


def test_values_that_agree():
    assert largest_together(np.ones((1, 6))).tolist() == [[0.0, 0.0]]
    assert largest_together(np.array([[1.0, 1.0, 1.0, 2.0]])).tolist() == [[math.inf]]


def test_two_values_are_too_few():
    with pytest.raises(ValueError, match="at least 3 values"):
        largest_together(np.ones((1, 2)))


@pytest.mark.parametrize(
    ("size", "critical"),  # at .05 for one, two and four tests, simulated elsewhere
    [(10, (3.35, 3.83, 4.35)), (43, (3.24, 3.48, 3.72))],
)
def test_the_null_has_the_known_critical_values(size, critical):
    null = null_of_largest(size, 99_999, 0)[:, 0]
    found = [np.quantile(null, 1 - 0.05 / tests) for tests in (1, 2, 4)]
    np.testing.assert_allclose(found, critical, atol=0.06)


def test_the_null_of_one_is_near_students():
    null = null_of_largest(12, 99_999, 1)[:, 0]
    largest = stats.t.sf(np.quantile(null, 0.95), 10)
    assert 1 - (1 - largest) ** 12 == pytest.approx(0.05, abs=0.004)


def test_the_null_is_whole_where_it_takes_several_blocks():
    null = null_of_largest(30_000, 40, 2)  # more than a block
    assert null.shape == (40, 3)
    assert np.isfinite(null).all()
    assert (null_of_largest(10, 99, 3) != null_of_largest(10, 99, 4)).any()
