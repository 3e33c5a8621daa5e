"""Steps on portions of the images and in reduced precision: what comes out is float32 on all images."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from backscan.scanner.results import PairStatus
from backscan.scanner.search.algorithm1 import search_pairs
from backscan.scanner.search.batch import Sources
from backscan.scanner.search.crossing import TOLERANCE
from backscan.scanner.search.settings import SearchSettings, Work
from backscan.scanner.search.spaces import ClippedImage
from backscan.scanner.search.steps import STEP_RULES
from tests.scanner.search.linear import GOAL, LinearClassifier, grey_images, linear_classifier, settings_of

NUM_IMAGES = 60


@pytest.fixture
def classifier() -> LinearClassifier:
    return linear_classifier()


@pytest.fixture
def images() -> torch.Tensor:
    return grey_images(NUM_IMAGES)


def run(settings: SearchSettings, classifier, images, work: Work | None = None):
    sources = Sources.gather({0: images}, ClippedImage(classifier), {0: torch.ones(len(images), dtype=torch.bool)})
    [result] = search_pairs(settings, sources, [(0, 1)], work or Work())
    return result


def rate_of(classifier, images, pattern) -> float:
    decided = classifier.log_posterior(torch.clamp(images + torch.from_numpy(pattern), 0, 1)).argmax(dim=1) == 1
    return float(decided.double().mean())


def least(classifier, images) -> float:
    return float(classifier.least_sizes(images).sort().values[math.ceil(GOAL * len(images)) - 1])


def test_portions_cost_a_fraction_and_find_the_same(classifier, images):
    work = Work()
    result = run(settings_of(classifier), classifier, images, work)
    assert result.size == pytest.approx(least(classifier, images), rel=TOLERANCE)
    assert result.rate == rate_of(classifier, images, result.pattern) >= GOAL
    # Steps that turned out to lie beyond the goal are not told, so a few more may have been taken.
    assert result.steps <= work.gradients * 6 / NUM_IMAGES <= result.steps + 3


def test_every_image_has_its_turn(classifier, images):
    """Portions interleave: a sorted class would otherwise show its near images only."""
    in_order = images[classifier.least_sizes(images).argsort()]
    result = run(settings_of(classifier), classifier, in_order)
    assert result.size == pytest.approx(least(classifier, images), rel=TOLERANCE)


@pytest.mark.parametrize("shift", [-0.3, 0.15])
def test_a_reduced_copy_that_errs_does_not_decide(classifier, images, shift):
    """A copy that sees the boundary too near or too far: size and rate are those of the true model."""
    reduced = replace(classifier, threshold=classifier.threshold + shift * float(classifier.weights.norm()))
    result = run(settings_of(classifier, reduced=ClippedImage(reduced)), classifier, images)
    assert result.status is PairStatus.REACHED
    assert result.rate == rate_of(classifier, images, result.pattern) >= GOAL
    longest = 0.05 if shift < 0 else 0.15 + 0.05
    assert least(classifier, images) - 1e-5 <= result.size <= least(classifier, images) + longest
    if shift < 0:
        assert result.size == pytest.approx(least(classifier, images), rel=TOLERANCE)


def test_strides_end_where_images_begin_to_move(classifier, images):
    sizes = run(settings_of(classifier), classifier, images).trajectory.sizes
    steps = [after - before for before, after in itertools.pairwise(sizes)]
    assert steps[0] == pytest.approx(2 * 0.05, rel=1e-5)
    assert 0.0 < steps[-1] <= 0.05 + 1e-6


def test_the_published_rule_sees_all_images_in_float32_at_every_step():
    assert (STEP_RULES["plain"].portions, STEP_RULES["plain"].stride) == (1, 1.0)
    assert [STEP_RULES["unit"].portions_of(n) for n in (5, 25, 40, 59, 60, 1000)] == [1, 2, 4, 5, 6, 10]
