"""Patterns of single images on classifiers where they are known on paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backscan.kernels import transferability
from backscan.scanner.results import TransferStatus
from backscan.scanner.search.settings import Work
from backscan.scanner.search.transfer import NUM_IMAGES, SHARE_OF_WAY_BACK, moved, own_patterns, transfers
from tests.scanner.search.linear import LinearClassifier, grey_images, linear_classifier, settings_of


def beyond(classifier: LinearClassifier, images: torch.Tensor, distance: float = 0.6) -> torch.Tensor:
    """The same images on the other side of the boundary, a distance further along the weights than in the middle."""
    return images + (0.6 + distance) * classifier.weights / classifier.weights.norm()


def test_each_image_finds_its_least_pattern() -> None:
    classifier, images = linear_classifier(), grey_images(30)
    own = own_patterns(settings_of(classifier), images, 1)
    np.testing.assert_allclose(own.sizes, classifier.least_sizes(images), rtol=5e-3)
    direction = classifier.weights / classifier.weights.norm()
    np.testing.assert_allclose(
        own.patterns / own.sizes[:, None, None, None], direction.expand(30, -1, -1, -1), atol=1e-3
    )


def test_at_the_crossing_a_linear_model_has_one_half() -> None:
    """Of two images the one that is farther has the pattern that moves the other."""
    classifier, images = linear_classifier(), grey_images(30)
    settings = settings_of(classifier)
    own = own_patterns(settings, images, 1)
    rate, _ = transferability(moved(settings, images, own.patterns, 1).numpy())
    assert rate == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("distance", "rate"), [(0.6, 0.0), (1.3, 1.0)])
def test_patterns_are_compared_at_a_share_of_the_way_back(distance: float, rate: float) -> None:
    """A linear model, whose way there is near 0.6 for all: it counts where that is less than the share."""
    classifier, images = linear_classifier(), grey_images(NUM_IMAGES)
    there = classifier.least_sizes(images)
    far = beyond(classifier, images, distance)
    found = transfers(settings_of(classifier), {0: images, 1: far}, [(0, 1), (1, 0)], Work())
    back = -classifier.least_sizes(far)
    compared = SHARE_OF_WAY_BACK * float(back.median())
    expected = float((there <= compared).double().mean())
    assert found[0, 1].status is TransferStatus.FOUND
    assert found[0, 1].rate == pytest.approx(expected, abs=0.05)
    assert found[0, 1].rate == pytest.approx(rate, abs=0.3)
    assert found[0, 1].own_size == pytest.approx(float(there.median()), rel=1e-2)
    assert found[0, 1].back_size == pytest.approx(float(back.sort().values[[14, 15]].mean()), rel=1e-2)
    assert found[1, 0].rate == 0.0


def test_few_images_and_no_way_back_are_told() -> None:
    classifier, images = linear_classifier(), grey_images(25)
    far, work = beyond(classifier, images), Work()
    settings = settings_of(classifier)
    few = transfers(settings, {0: images[:19], 1: far}, [(0, 1)], work)
    assert few[0, 1].status is TransferStatus.FEW_IMAGES
    assert transfers(settings, {0: images}, [(0, 1)], work)[0, 1].status is TransferStatus.FEW_IMAGES
    short = settings_of(classifier, max_size=0.3)
    assert transfers(short, {0: images, 1: far}, [(0, 1)], work)[0, 1].status is TransferStatus.LIMIT
    assert transfers(settings, {0: images, 1: far}, [(0, 1)], work, stopped=lambda: True) == {}
