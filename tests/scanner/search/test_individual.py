"""What single images need, on classifiers where it is known on paper."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from backscan.kernels import quantile_with_error
from backscan.scanner.search.algorithm1 import search_pairs
from backscan.scanner.search.batch import Sources
from backscan.scanner.search.individual import NUM_IMAGES, common_sizes, individual_sizes, limit_of
from backscan.scanner.search.settings import Work
from backscan.scanner.search.spaces import ClippedImage
from tests.scanner.search.linear import GOAL, SHAPE, LinearClassifier, grey_images, linear_classifier, settings_of


def sources_of(classifier: LinearClassifier, images: torch.Tensor) -> Sources:
    counted = {0: torch.ones(len(images), dtype=torch.bool)}
    return Sources.gather({0: images}, ClippedImage(classifier), counted)


def test_each_image_finds_its_least_size():
    classifier, images, work = linear_classifier(), grey_images(40), Work()
    found = individual_sizes(settings_of(classifier), sources_of(classifier, images), [(0, 1)], work)[0, 1]
    least = classifier.least_sizes(images[:NUM_IMAGES])
    followed = least <= least.sort().values[int(GOAL * NUM_IMAGES) - 1]
    np.testing.assert_allclose(torch.tensor(found)[followed], least[followed], rtol=1e-4)
    assert (torch.tensor(found)[~followed] >= max(least[followed]) * 0.999).all()
    # At most one look forward and back for each step of each image, and one more forward.
    assert NUM_IMAGES <= work.gradients <= 5 * NUM_IMAGES
    assert 0 < work.forwards <= NUM_IMAGES


def test_a_linear_model_has_commonality_one():
    classifier, images = linear_classifier(), grey_images(60)
    settings, sources = settings_of(classifier), sources_of(classifier, images)
    [result] = search_pairs(settings, sources, [(0, 1)], Work())
    own = individual_sizes(settings, sources, [(0, 1)], Work())[0, 1]
    [common] = common_sizes(settings, sources, [result], Work())
    quantile, _ = quantile_with_error(own, GOAL)
    assert quantile / common == pytest.approx(1.0, abs=1e-3)
    assert abs(quantile / result.size - 1.0) > 0.01  # other images give another size


def test_images_at_the_target_need_nothing_and_others_may_not_arrive():
    classifier, images = linear_classifier(), grey_images(30)
    direction = classifier.weights / classifier.weights.norm()
    images[:3] = 0.5 + 0.7 * direction  # beyond the boundary at 0.6
    images[3:6] = 0.5 - 0.2 * direction
    settings = settings_of(classifier, step_size=0.015, goal_rate=1.0)  # twelve steps reach 0.72
    found = individual_sizes(settings, sources_of(classifier, images), [(0, 1)], Work())[0, 1]
    assert found[:3] == [0.0] * 3
    assert found[3:6] == [limit_of(settings)] * 3
    assert 0.0 < max(found[6:]) <= limit_of(settings)


def test_pixels_stay_in_range():
    classifier = linear_classifier()
    light = 1.0 - 0.01 * torch.rand(30, *SHAPE, generator=torch.Generator().manual_seed(2))
    classifier = replace(classifier, threshold=float((light.flatten(1) @ classifier.weights.flatten()).max()) + 0.5)
    found = individual_sizes(settings_of(classifier), sources_of(classifier, light), [(0, 1)], Work())[0, 1]
    least = [least_size_in_range(classifier, image) for image in light[:NUM_IMAGES]]
    followed = np.argsort(found)[: int(GOAL * NUM_IMAGES)]
    ratios = np.array(found)[followed] / np.array(least)[followed]
    assert ratios.min() > 0.999
    assert ratios.max() < 1.1


def least_size_in_range(classifier: LinearClassifier, image: torch.Tensor) -> float:
    """Size of the least pattern that moves the image and leaves it in range: along the weights, cut off."""
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        moved = (image + middle * classifier.weights).clamp(0.0, 1.0)
        is_there = float(moved.flatten() @ classifier.weights.flatten()) >= classifier.threshold
        low, high = (low, middle) if is_there else (middle, high)
    return float(((image + high * classifier.weights).clamp(0.0, 1.0) - image).norm())


def test_threads_change_nothing_and_time_ends_it():
    classifier, images = linear_classifier(), grey_images(30)
    by_class = {0: images, 2: images - 0.01}
    counted = {label: torch.ones(30, dtype=torch.bool) for label in by_class}
    sources, pairs = Sources.gather(by_class, ClippedImage(classifier), counted), [(0, 1), (0, 2), (2, 0), (2, 1)]
    one, two = (
        individual_sizes(settings_of(classifier, threads=threads), sources, pairs, Work()) for threads in (1, 2)
    )
    assert one == two
    assert list(one) == pairs
    assert individual_sizes(settings_of(classifier), sources, pairs, Work(), stopped=lambda: True) == {}
