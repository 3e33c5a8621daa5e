"""Runs of pairs without a class in common, against what can be counted on paper and by trying all orders."""

from itertools import permutations

import numpy as np
import pytest

from backscan.kernels.runs import leading_run, run_p_value


def matrix(num_classes, ordered):
    """Values of which the pairs that are named are the largest, the first one most."""
    values = np.random.default_rng(0).random((num_classes, num_classes))
    values[np.eye(num_classes, dtype=bool)] = np.nan
    for place, pair in enumerate(ordered):
        values[pair] = 100.0 - place
    return values


@pytest.mark.parametrize(
    ("ordered", "length"),
    [
        ([(0, 1), (1, 2), (2, 3), (3, 0)], 4),
        ([(0, 1), (2, 3), (0, 4), (4, 2)], 2),  # a source again
        ([(0, 1), (2, 3), (4, 3)], 2),  # a target again
        ([(0, 1), (2, 3), (1, 0)], 2),  # the other way round
        ([(0, 1), (0, 2)], 1),
    ],
)
def test_a_run_ends_with_the_first_pair_that_shares_a_class(ordered, length):
    values = matrix(6, ordered)
    assert leading_run(values)[:length] == tuple(ordered[:length])
    assert len(leading_run(values)) >= length
    if length < len(ordered):
        assert leading_run(values) == tuple(ordered[:length])


def test_pairs_that_are_missing_do_not_count_and_ties_go_to_the_first():
    values = np.full((4, 4), np.nan)
    assert leading_run(values) == ()
    values[2, 1] = values[0, 3] = 1.0
    assert leading_run(values) == ((0, 3), (2, 1))


def test_the_p_value_is_the_share_of_all_orders_of_three_classes():
    pairs = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    lengths = []
    for order in permutations(pairs):
        values = np.full((3, 3), np.nan)
        for place, pair in enumerate(order):
            values[pair] = -place
        lengths.append(len(leading_run(values)))
    for length in (1, 2, 3, 4):
        share = np.mean(np.array(lengths) >= length)
        assert run_p_value(length, ~np.eye(3, dtype=bool)) == pytest.approx(share, abs=0.02), (
            "three standard errors of 9,999 draws"
        )


def test_the_p_value_of_two_is_that_on_paper():
    """After the first of 90 pairs 8 others have its source, 8 its target, and one is its reverse."""
    every = ~np.eye(10, dtype=bool)
    assert run_p_value(1, every) == 1.0
    assert run_p_value(2, every) == pytest.approx(72 / 89, abs=0.012)
    assert run_p_value(11, every) == 1 / 10_000


def test_of_pairs_that_mostly_have_no_class_in_common_long_runs_are_no_sign():
    """Of each class to the next and the one after, any two share a source or a target seldom."""
    classes = np.arange(10)
    few = np.zeros((10, 10), dtype=bool)
    few[classes, (classes + 1) % 10] = few[classes, (classes + 2) % 10] = True
    assert run_p_value(7, few) > 0.02 > 0.005 > run_p_value(7, ~np.eye(10, dtype=bool))
    diagonal = np.zeros((10, 10), dtype=bool)
    diagonal[classes, (classes + 1) % 10] = True
    assert run_p_value(10, diagonal) == 1.0
