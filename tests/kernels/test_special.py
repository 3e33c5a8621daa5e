"""Special functions against scipy, and exact values at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special as oracle

from backscan.kernels import special

SHAPES = 10.0 ** np.linspace(-3, 4, 29)
SPREADS = np.exp(np.linspace(-3, 3, 41))


def grid():
    """Shapes and arguments from the lower tail to the upper one."""
    for shape in SHAPES:
        for spread in SPREADS:
            yield shape, shape * spread ** min(1.0, 3.0 / math.sqrt(shape))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(special.log_gamma_p, oracle.gammainc), (special.log_gamma_q, oracle.gammaincc)],
    ids=["P", "Q"],
)
def test_incomplete_gamma(ours, theirs):
    for shape, x in grid():
        expected = theirs(shape, x)
        if expected > 1e-290:
            assert math.exp(ours(shape, x)) == pytest.approx(expected, rel=2e-12)


def test_incomplete_gamma_of_shape_one_is_exponential():
    for x in (1e-12, 0.3, 1.0, 5.0, 700.0, 1e5):
        assert special.log_gamma_q(1.0, x) == pytest.approx(-x, rel=1e-14)
        assert special.log_gamma_p(1.0, x) == pytest.approx(math.log(-math.expm1(-x)), rel=1e-13, abs=1e-300)


def test_far_tail_of_integer_shape():
    # Q(3, x) = exp(-x) (1 + x + x^2 / 2), far below the smallest number
    for x in (50.0, 1e3, 1e6):
        assert special.log_gamma_q(3.0, x) == pytest.approx(-x + math.log(1.0 + x + 0.5 * x * x), rel=1e-14)


def test_large_shape_against_the_exact_value():
    # mpmath, 40 digits; scipy's own value is off by 4e-6 here
    exact = 4.2730043228933513333e-07
    assert math.exp(special.log_gamma_p(976257.5171900679, 971401.5784325298)) == pytest.approx(exact, rel=1e-10)


def test_edges_of_the_incomplete_gamma():
    assert special.log_gamma_p(2.0, 0.0) == -math.inf
    assert special.log_gamma_p(2.0, math.inf) == 0.0
    assert special.log_gamma_q(2.0, 0.0) == 0.0
    assert special.log_gamma_q(2.0, math.inf) == -math.inf
    for arguments in ((math.nan, 1.0), (1.0, math.nan)):
        assert math.isnan(special.log_gamma_p(*arguments))
        assert math.isnan(special.log_gamma_q(*arguments))


@given(st.floats(0.01, 1e4), st.floats(1e-3, 10.0))
def test_p_and_q_add_up_to_one(shape, ratio):
    lower, upper = (math.exp(log(shape, shape * ratio)) for log in (special.log_gamma_p, special.log_gamma_q))
    assert lower + upper == pytest.approx(1.0, abs=1e-13)


@given(st.floats(0.1, 100.0), st.floats(0.0, 500.0), st.floats(0.001, 50.0))
def test_tail_falls(shape, x, further):
    assert special.log_gamma_q(shape, x + further) <= special.log_gamma_q(shape, x)


def test_digamma_and_trigamma():
    for x in 10.0 ** np.linspace(-3, 8, 200):
        assert special.digamma(x) == pytest.approx(oracle.digamma(x), rel=1e-14, abs=2e-15)
        assert special.trigamma(x) == pytest.approx(oracle.polygamma(1, x), rel=1e-14)


def test_scaled_erfc():
    for x in np.concatenate([np.linspace(-5, 6, 111), 10.0 ** np.linspace(1, 8, 20)]):
        assert special.scaled_erfc(x) == pytest.approx(oracle.erfcx(x), rel=1e-14)
