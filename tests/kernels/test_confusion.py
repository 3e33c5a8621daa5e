"""The size offset of equation (7) against a search by least squares, and trajectories with a known answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backscan.kernels.confusion import size_offset

SIZES = np.linspace(0.0, 2.0, 12)


def residual(sizes, rates, order, offset):
    """Sum of squares of equation (7) at one offset, minimised over the coefficients by numpy."""
    x = (sizes + offset) / (sizes + offset).max()
    powers = x[:, None] ** np.arange(1, order + 1)
    coefficients = np.linalg.lstsq(powers, rates, rcond=None)[0]
    return float(np.sum((powers @ coefficients - rates) ** 2))


def trajectory(seed):
    """Sizes and noisy rising rates as a search leaves them."""
    rng = np.random.default_rng(seed)
    sizes = np.concatenate([[0.0], np.cumsum(rng.uniform(0.1, 1.0, rng.integers(2, 25)))]) * 10.0 ** rng.uniform(-4, 4)
    start = rng.uniform(0.02, 0.4)
    rates = start + (0.9 - start) * (sizes / sizes[-1]) ** rng.uniform(0.5, 3.0) + 0.03 * rng.normal(size=sizes.size)
    return sizes, np.clip(rates, 0.01, 1.0)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(12))
def test_no_offset_on_a_fine_grid_is_better(seed, order):
    sizes, rates = trajectory(seed)
    used = min(order, len(sizes) - 2)
    ours = residual(sizes, rates, used, size_offset(sizes, rates, order))
    grid = [residual(sizes, rates, used, offset) for offset in np.linspace(0.0, sizes[-1], 801)]
    assert ours <= min(grid) * (1 + 1e-8) + 1e-13


@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_line_through_minus_d0(order):
    assert size_offset(SIZES, 0.2 * (SIZES + 0.37), order) == pytest.approx(0.37, rel=1e-9)


@pytest.mark.parametrize("order", [2, 3, 5])
def test_smallest_of_equal_residuals(order):
    rates = 0.1 * (SIZES + 0.3) * (SIZES + 0.8)  # both roots fit exactly
    assert size_offset(SIZES, rates, order) == pytest.approx(0.3, rel=1e-9)


def test_double_root_counts_as_a_root():
    rates = 0.1 * (SIZES + 0.3) ** 2 * (SIZES + 0.8)
    assert size_offset(SIZES, rates, 3) == pytest.approx(0.3, abs=1e-5)


def test_offset_does_not_exceed_the_largest_size():
    rates = 0.01 * (SIZES + 50.0)
    assert size_offset(SIZES, rates, 1) == pytest.approx(SIZES[-1])


def test_without_initial_confusion_there_is_no_offset():
    assert size_offset(SIZES, np.concatenate([[0.0], 0.1 + 0.3 * SIZES[1:]]), 3) == 0.0


@pytest.mark.parametrize("sizes", [[0.0], [0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
def test_fewer_than_three_sizes_give_no_offset(sizes):
    assert size_offset(sizes, np.linspace(0.2, 0.9, len(sizes)), 3) == 0.0


def test_order_is_limited_by_the_number_of_steps():
    sizes, rates = np.array([0.0, 1.0, 2.0]), np.array([0.1, 0.5, 0.8])  # T = 2: a line
    assert size_offset(sizes, rates, 5) == size_offset(sizes, rates, 1)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), order=st.integers(1, 8), exponent=st.integers(-100, 100))
def test_offset_is_in_range_and_scales_with_the_sizes(seed, order, exponent):
    sizes, rates = trajectory(seed)
    offset = size_offset(sizes, rates, order)
    assert 0.0 <= offset <= sizes[-1]
    scaled = size_offset(sizes * 2.0**exponent, rates, order)
    assert scaled == pytest.approx(offset * 2.0**exponent, rel=1e-6, abs=1e-7 * sizes[-1] * 2.0**exponent)


@pytest.mark.parametrize(
    ("sizes", "rates", "order"),
    [
        ([0.0, 1.0], [0.1], 3),
        ([], [], 3),
        ([0.0, -1.0, 2.0], [0.1, 0.2, 0.3], 3),
        ([0.0, math.inf, 2.0], [0.1, 0.2, 0.3], 3),
        ([0.0, 1.0, 2.0], [0.1, math.nan, 0.3], 3),
        ([0.0, 1.0, 2.0], [0.1, 0.2, 0.3], 0),
    ],
)
def test_refuses(sizes, rates, order):
    with pytest.raises(ValueError, match="expected"):
        size_offset(sizes, rates, order)
