"""Pixels and features together: closed forms of the filter, and one threshold for both."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from backscan.scanner.aftercare.guard import Guard
from backscan.scanner.aftercare.strength import Linear, Strength, strength_of
from tests.scanner.aftercare.test_guard import SHAPE, chessboard, natural, report_of

WIDE, NARROW = 2.0, 1.0
CORNERS = np.array(list(product([-WIDE, WIDE], [-NARROW, NARROW])), np.float32)
"""Four rows of mean 0 and covariance diag(4, 1)."""


def features_of(clean: np.ndarray, carrying: np.ndarray) -> Linear:
    images = natural(len(clean))
    found = strength_of(Guard(report_of(chessboard()), images), images, clean, carrying)
    assert found.features is not None
    return found.features


def test_the_filter_of_features_is_fishers_discriminant() -> None:
    clean, carrying = np.repeat(CORNERS, 10, axis=0), np.full((5, 2), (2.0, 1.0), np.float32)
    found = features_of(clean, carrying)
    # The shrinkage is a tenth of the mean variance, 2.5; a filter's gain between the two means is its scale.
    expected = np.array([2 / 4.25, 1 / 1.25])
    np.testing.assert_allclose(found.weights / found.weights[0], expected / expected[0], rtol=1e-5)
    assert found.offset == pytest.approx(0.0, abs=1e-6)


def test_the_mean_of_clean_features_is_taken_off_before_the_product() -> None:
    clean, carrying = np.repeat(CORNERS, 10, axis=0), np.full((5, 2), (2.0, 1.0), np.float32)
    plain, far = features_of(clean, carrying), features_of(clean + 3000, carrying + 3000)
    assert far.centre is not None
    np.testing.assert_allclose(far.centre, 3000)
    assert abs(far.offset) < 1e-6
    np.testing.assert_allclose(far.of(carrying + 3000), plain.of(carrying), atol=1e-6)
    rounded = (carrying + np.float32(3000) - far.centre) @ far.weights + np.float32(far.offset)
    np.testing.assert_allclose(rounded, far.of(carrying + 3000), atol=1e-6)


def test_more_features_than_images_are_whitened_alike() -> None:
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(12, 30)).astype(np.float32)
    carrying = (clean[:6] + rng.normal(size=30)).astype(np.float32)
    found = features_of(clean, carrying)
    centred = clean - clean.mean(axis=0, dtype=np.float64)
    covariance = centred.T @ centred / 12 + 0.1 * np.square(centred).mean() * np.eye(30)
    expected = np.linalg.solve(
        covariance, carrying.mean(axis=0, dtype=np.float64) - clean.mean(axis=0, dtype=np.float64)
    )
    np.testing.assert_allclose(
        found.weights / np.linalg.norm(found.weights), expected / np.linalg.norm(expected), atol=1e-4
    )
    assert found.of(clean).mean() == pytest.approx(0.0, abs=1e-5)


def test_both_filters_spread_alike_on_images_that_made_neither_and_the_clearer_gives_one() -> None:
    rng = np.random.default_rng(1)
    images, fresh = natural(400), natural(400, 1)
    guard = Guard(report_of(chessboard()), images)
    clean, unseen, carrying = (rng.normal(size=(count, 150)) + shift for count, shift in ((400, 0), (400, 0), (50, 1)))
    found = strength_of(guard, images, *(array.astype(np.float32) for array in (clean, carrying)))
    assert found.features is not None
    spreads = found.pixels.of(fresh).std(), found.features.of(unseen.astype(np.float32)).std()
    assert spreads[0] == pytest.approx(spreads[1], rel=0.25)
    gains = (found.pixels.weights * chessboard()).sum(), found.features.of(carrying.astype(np.float32)).mean()
    assert max(gains) == pytest.approx(1.0, abs=1e-3)
    assert min(gains) < 0.9


def test_the_larger_of_the_two_counts() -> None:
    pixels = Linear(np.zeros(SHAPE, np.float32), 0.25)
    features = Linear(np.array([0.5, 0.0], np.float32), 0.0)
    values = np.array([[1, 9], [0, 9], [9, 0], [-9, 0]], np.float32)
    scores = Strength(pixels, features).of(natural(4), values)
    np.testing.assert_allclose(scores, [0.5, 0.25, 1.0, 0.25])
    np.testing.assert_allclose(Strength(pixels).of(natural(4), values[:, :0]), 0.25)


@pytest.mark.parametrize(
    ("clean", "carrying"),
    [
        (CORNERS, np.ones((4, 2))),  # too few
        (np.ones((4, 2)), np.full((9, 2), 2.0)),  # no spread
        (CORNERS, np.repeat(CORNERS, 2, axis=0)),  # where they were
        (CORNERS, np.full((9, 2), np.inf)),
    ],
)
def test_features_that_tell_nothing_are_left_out(clean: np.ndarray, carrying: np.ndarray) -> None:
    images = natural(len(clean))
    guard = Guard(report_of(chessboard()), images)
    found = strength_of(guard, images, clean.astype(np.float32), carrying.astype(np.float32))
    assert found.features is None
    np.testing.assert_array_equal(found.pixels.weights, guard.weights)
