"""The search for patterns, against a classifier whose least patterns are known on paper."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from backscan.scanner.results import PairStatus
from backscan.scanner.search.algorithm1 import search_pairs
from backscan.scanner.search.batch import Batch, Sources
from backscan.scanner.search.crossing import TOLERANCE
from backscan.scanner.search.objectives import OBJECTIVES
from backscan.scanner.search.settings import SearchSettings, Work
from backscan.scanner.search.spaces import BoxedImage, ClippedImage
from backscan.scanner.search.steps import STEP_RULES
from tests.scanner.search.linear import (
    GOAL,
    SHAPE,
    LinearClassifier,
    grey_images,
    least_common_size,
    linear_classifier,
    settings_of,
)

NUM_IMAGES = 20


@pytest.fixture
def images() -> torch.Tensor:
    return grey_images(NUM_IMAGES)


@pytest.fixture
def classifier() -> LinearClassifier:
    return linear_classifier()


def sources_of(classifier: LinearClassifier, **images_by_class: torch.Tensor) -> Sources:
    by_class = {int(name.removeprefix("c")): array for name, array in images_by_class.items()}
    counted = {label: torch.ones(len(array), dtype=torch.bool) for label, array in by_class.items()}
    return Sources.gather(by_class, ClippedImage(classifier), counted)


def run_one(settings: SearchSettings, sources: Sources, pair: tuple[int, int] = (0, 1)):
    [result] = search_pairs(settings, sources, [pair], Work())
    return result


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_finds_the_least_pattern(classifier, images, objective):
    result = run_one(settings_of(classifier, objective=OBJECTIVES[objective]), sources_of(classifier, c0=images))
    assert result.status is PairStatus.REACHED
    assert result.size == pytest.approx(least_common_size(classifier, images), rel=TOLERANCE)
    assert np.linalg.norm(result.pattern) == pytest.approx(result.size, rel=1e-5)
    cosine = (result.pattern.ravel() @ classifier.weights.numpy().ravel()) / (
        np.linalg.norm(result.pattern) * float(classifier.weights.norm())
    )
    assert cosine == pytest.approx(1.0, abs=1e-5)


def test_size_does_not_depend_on_the_step(classifier, images):
    sizes = [
        run_one(settings_of(classifier, step_size=step), sources_of(classifier, c0=images)).size for step in (0.02, 0.3)
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=TOLERANCE)


def test_a_crossing_in_few_steps_is_searched_again(classifier, images):
    result = run_one(settings_of(classifier, step_size=0.5), sources_of(classifier, c0=images))
    assert result.steps >= 5
    assert result.size == pytest.approx(least_common_size(classifier, images), rel=TOLERANCE)


def test_underflowing_posteriors_still_give_the_direction(classifier, images):
    saturated = replace(classifier, sharpness=1e4)
    assert float(saturated.log_posterior(images)[:, 1].exp().max()) == 0.0
    result = run_one(
        settings_of(saturated, objective=OBJECTIVES["J"], space=ClippedImage(saturated)),
        sources_of(saturated, c0=images),
    )
    assert result.size == pytest.approx(least_common_size(classifier, images), rel=TOLERANCE)


def test_plain_rule_is_the_gradient_of_equation_3(classifier, images):
    """One plain step equals -delta grad J, computed by autograd on equation (3) itself."""
    settings = settings_of(
        classifier, objective=OBJECTIVES["J"], rule=STEP_RULES["plain"], step_size=2.0, max_steps=1, refine=False
    )
    result = run_one(settings, sources_of(classifier, c0=images))
    pattern = torch.zeros(SHAPE, requires_grad=True)
    objective = -classifier.log_posterior(torch.clamp(images + pattern, 0, 1))[:, 1].exp().mean()
    (gradient,) = torch.autograd.grad(objective, pattern)
    np.testing.assert_allclose(result.pattern, -2.0 * gradient.numpy(), rtol=1e-4, atol=1e-9)


def test_limits_give_a_status_and_the_largest_size(classifier, images):
    sources = sources_of(classifier, c0=images)
    small = run_one(settings_of(classifier, max_size=0.1), sources)
    assert small.status is PairStatus.SIZE_LIMIT
    assert small.size == pytest.approx(0.1, abs=0.051)
    short = run_one(settings_of(classifier, max_steps=3), sources)
    assert (short.status, short.steps) == (PairStatus.STEP_LIMIT, 3)
    # Hardly an image moves so early, so steps are twice as long.
    assert short.size == pytest.approx(3 * 2 * 0.05, rel=1e-4)


def test_no_gradient_is_never_a_size_of_zero(images):
    flat = LinearClassifier(torch.zeros(SHAPE), threshold=1.0)
    result = run_one(settings_of(flat, space=ClippedImage(flat), max_steps=10), sources_of(flat, c0=images))
    assert result.status is PairStatus.STEP_LIMIT
    assert result.size > 0.05


def test_already_confused(classifier, images):
    sources = sources_of(classifier, c0=images + 0.5 * classifier.weights.sign())
    result = run_one(settings_of(classifier), sources)
    assert (result.status, result.size, result.steps) == (PairStatus.ALREADY_CONFUSED, None, 0)
    assert result.initial_rate >= GOAL


def test_lanes_do_not_change_results(classifier, images):
    """Pairs of different lengths, padded together, one at a time or all at once."""
    sources = sources_of(classifier, c0=images, c2=images[:7] - 0.02)
    pairs = [(0, 1), (2, 1), (2, 0)]
    one, three = (
        {(r.source, r.target): r for r in search_pairs(settings_of(classifier, lanes=lanes), sources, pairs, Work())}
        for lanes in (1, 3)
    )
    assert one.keys() == three.keys() == set(pairs)
    for pair in pairs:
        assert one[pair].status is three[pair].status
        if one[pair].size is not None:
            assert one[pair].size == pytest.approx(three[pair].size, rel=1e-6)
        assert one[pair].rate == three[pair].rate


def test_threads_change_nothing_at_all(classifier, images):
    sources = sources_of(classifier, c0=images, c2=images[:7] - 0.02)
    pairs = [(0, 1), (2, 1), (2, 0), (0, 2)]
    one, three = (
        {
            (r.source, r.target): (r.size, r.rate, r.trajectory, r.pattern.tobytes())
            for r in search_pairs(
                settings_of(classifier, lanes=1, group_size=1, threads=threads), sources, pairs, Work()
            )
        }
        for threads in (1, 3)
    )
    assert one == three


def test_padding_counts_for_nothing(classifier, images):
    alone = run_one(settings_of(classifier), sources_of(classifier, c2=images[:7]), (2, 1))
    padded = run_one(settings_of(classifier), sources_of(classifier, c0=images, c2=images[:7]), (2, 1))
    assert padded.size == pytest.approx(alone.size, rel=1e-6)
    assert padded.trajectory.rates == alone.trajectory.rates


def test_trajectory_starts_at_nothing_and_ends_at_the_result(classifier, images):
    result = run_one(settings_of(classifier), sources_of(classifier, c0=images))
    assert result.trajectory.sizes[0] == 0.0
    assert result.trajectory.rates[0] == result.initial_rate
    assert (result.trajectory.sizes[-1], result.trajectory.rates[-1]) == (result.size, result.rate)
    assert len(result.trajectory.sizes) == result.steps + 1
    assert list(result.trajectory.sizes) == sorted(result.trajectory.sizes)


def test_only_counted_images_make_the_rate(classifier, images):
    """Equation (6): with the far half left out, the near half decides the size."""
    order = classifier.least_sizes(images).argsort()
    counted = torch.zeros(NUM_IMAGES, dtype=torch.bool)
    counted[order[:10]] = True
    sources = Sources.gather({0: images}, ClippedImage(classifier), {0: counted})
    result = run_one(settings_of(classifier, objective=OBJECTIVES["Jc"]), sources)
    assert result.size == pytest.approx(least_common_size(classifier, images[order[:10]]), rel=TOLERANCE)


def test_box_keeps_every_image_in_range(classifier, images):
    near_white = images.clone()
    near_white[0, 0, 0, 0] = 0.98
    settings = settings_of(classifier, space=BoxedImage(classifier))
    result = run_one(settings, sources_of(classifier, c0=near_white))
    moved = near_white.numpy() + result.pattern
    assert moved.min() >= -1e-6
    assert moved.max() <= 1 + 1e-6


def test_stopping_drops_what_is_not_finished(classifier, images):
    sources = sources_of(classifier, c0=images, c2=images)
    asked = iter([False] * 3 + [True] * 1000)
    results = list(
        search_pairs(settings_of(classifier, lanes=1), sources, [(0, 1), (2, 1)], Work(), stopped=lambda: next(asked))
    )
    assert results == []


def test_work_counts_every_image(classifier, images):
    work = Work()
    settings = settings_of(classifier, rule=replace(STEP_RULES["unit"], portions=1))
    [result] = search_pairs(settings, sources_of(classifier, c0=images), [(0, 1)], work)
    assert work.gradients == result.steps * NUM_IMAGES
    # The last step, the pattern found, and between them the images that may change their decision.
    assert 2 * NUM_IMAGES < work.forwards <= 3 * NUM_IMAGES


def test_jp_leaves_out_decided_images():
    log_p, log_rest = torch.tensor([[-1.0, -2.0, -3.0]]), torch.tensor([[-0.5, -0.25, -0.125]])
    decided = torch.tensor([[True, False, False]])
    counted = torch.tensor([[True, True, False]])
    weights = OBJECTIVES["Jp"].log_weights(log_p, log_rest, decided, counted)
    assert weights.tolist() == [[float("-inf"), -2.25, float("-inf")]]


def test_rates_count_only_counted_images():
    batch = Batch(torch.zeros(1, 3, 1), torch.tensor([[True, True, False]]), torch.tensor([1]))
    log_posterior = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]])
    assert batch.rates(batch.decided(log_posterior)).tolist() == [0.5]
