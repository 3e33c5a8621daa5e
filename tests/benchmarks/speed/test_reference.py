"""The references against a classifier whose least patterns are known on paper."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from backscan.scanner.results import PairStatus
from benchmarks.speed import reference
from tests.scanner.search.linear import LinearClassifier, grey_images, least_common_size, linear_classifier

NUM_IMAGES = 20


@pytest.fixture
def images() -> torch.Tensor:
    return grey_images(NUM_IMAGES)


@pytest.fixture
def classifier() -> LinearClassifier:
    return linear_classifier()


@pytest.mark.parametrize("way", [reference.PUBLISHED, reference.LATER], ids=["published", "later"])
def test_refined_crossing_is_the_least_pattern(classifier, images, way):
    found = reference.descend(classifier.log_posterior, images, (0, 1), way, 0.05)
    result = reference.as_result(classifier.log_posterior, images, found)
    assert result.status is PairStatus.REACHED
    assert result.size == pytest.approx(least_common_size(classifier, images, reference.GOAL_RATE), abs=1e-3)
    assert result.size <= found.trajectory.sizes[-1]
    assert np.linalg.norm(result.pattern) == pytest.approx(result.size, rel=1e-5)


@pytest.mark.parametrize(("way", "power"), [(reference.PUBLISHED, 1), (reference.LATER, 0)])
def test_a_step_is_the_gradient_on_paper(classifier, images, way, power):
    """With p = p(t|x): the gradient of J is -mean p (1 - p) w, that of the cross-entropy -mean (1 - p) w."""
    found = reference.descend(classifier.log_posterior, images, (0, 1), replace(way, max_steps=1), 0.3)
    posterior = classifier.log_posterior(images)[:, 1].exp()
    scale = float((posterior**power * (1 - posterior)).mean())
    torch.testing.assert_close(found.pattern, 0.3 * scale * classifier.weights, rtol=1e-4, atol=1e-7)


def test_every_pass_is_counted(classifier, images):
    found = reference.descend(classifier.log_posterior, images, (0, 1), reference.LATER, 0.05)
    assert found.cost.gradients == found.steps * NUM_IMAGES
    assert found.cost.forwards == (found.steps + 1) * NUM_IMAGES


def test_capped_pairs_are_named_and_can_be_left_out(classifier, images):
    short = replace(reference.LATER, max_steps=3)
    capped = reference.descend(classifier.log_posterior, images, (0, 1), short, 1e-4)
    arrived = reference.descend(classifier.log_posterior, images, (0, 1), reference.LATER, 0.05)
    assert reference.as_result(classifier.log_posterior, images, capped).status is PairStatus.STEP_LIMIT
    both, one = (reference.estimate([capped, arrived], 90, with_capped=flag) for flag in (True, False))
    assert both.capped == one.capped == ((0, 1),)
    seconds = capped.cost.wall_seconds + arrived.cost.wall_seconds
    assert both.wall_seconds == pytest.approx(45 * seconds)
    share = arrived.cost.passes / (capped.cost.passes + arrived.cost.passes)
    assert one.wall_seconds == pytest.approx(90 * share * seconds)


def test_line_search_takes_the_longest_step_that_does_not_overshoot(classifier, images):
    step = reference.line_search(classifier.log_posterior, {0: images}, [(0, 1)], reference.LATER)
    sizes = []
    for length in (step, step / reference._SHORTER):
        found = reference.descend(classifier.log_posterior, images, (0, 1), reference.LATER, length)
        refined = reference.as_result(classifier.log_posterior, images, found)
        sizes.append(found.trajectory.sizes[-1] / refined.size)
    assert sizes[0] <= 1.05 < sizes[1]


def test_pairs_are_seeded_and_different():
    pairs = reference.draw_pairs(10, 9, seed=0)
    assert pairs == reference.draw_pairs(10, 9, seed=0) != reference.draw_pairs(10, 9, seed=1)
    assert len(set(pairs)) == 9
    assert all(source != target for source, target in pairs)
