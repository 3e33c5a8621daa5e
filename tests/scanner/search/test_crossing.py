"""The smallest multiple of a pattern that reaches the goal rate, against the least one on paper."""

from __future__ import annotations

import math

import pytest
import torch

from backscan.scanner.search.batch import Batch, Sources, clean_posterior
from backscan.scanner.search.crossing import TOLERANCE, Measured, measure, shrink
from backscan.scanner.search.settings import Work
from backscan.scanner.search.spaces import ClippedImage
from tests.scanner.search.linear import GOAL, LinearClassifier, grey_images, linear_classifier

NUM_IMAGES = 40


@pytest.fixture
def classifier() -> LinearClassifier:
    return linear_classifier()


@pytest.fixture
def sources(classifier) -> Sources:
    """Two classes whose images lie at different distances from the boundary."""
    images = grey_images(NUM_IMAGES)
    by_class = {0: images, 2: images[:25] - 0.01}
    counted = {label: torch.ones(len(array), dtype=torch.bool) for label, array in by_class.items()}
    return Sources.gather(by_class, ClippedImage(classifier), counted)


def ends(space, sources, pairs, factors):
    """Batch, what it makes of no pattern and of patterns `factors` times as long as the least, and the least sizes."""
    batch = Batch.of(pairs, sources)
    classifier = space.classifier
    least = torch.tensor(
        [
            float(classifier.least_sizes(images[counted]).sort().values[math.ceil(GOAL * int(counted.sum())) - 1])
            for images, counted in zip(batch.encoded, batch.counted, strict=True)
        ]
    )
    direction = classifier.weights / classifier.weights.norm()
    lengths = least * torch.tensor(factors)
    clean = Measured.of(batch, torch.zeros(len(pairs), *direction.shape[-3:]), clean_posterior(pairs, sources))
    return batch, clean, measure(space, batch, lengths.reshape(-1, 1, 1, 1) * direction, Work()), least


@pytest.mark.parametrize("factor", [1.0005, 1.02, 1.3, 2.5])
def test_finds_the_least_multiple(classifier, sources, factor):
    space = ClippedImage(classifier)
    batch, clean, arrived, least = ends(space, sources, [(0, 1), (2, 1)], [factor, 1 + (factor - 1) / 2])
    work = Work()
    found = shrink(space, batch, clean, arrived, GOAL, work)
    assert bool((found.rates >= GOAL).all())
    sizes = found.patterns.flatten(1).norm(dim=1)
    assert bool((sizes >= least - 1e-5).all())
    assert bool((sizes <= least * (1 + TOLERANCE) + 1e-5).all())
    # Eight bisections of all images would be 640 image passes.
    assert work.forwards <= 2.5 * 2 * NUM_IMAGES


def test_what_is_told_was_measured(classifier, sources):
    """Rates and margins are those that all images give for the very pattern, whatever was interpolated."""
    space = ClippedImage(classifier)
    batch, clean, arrived, _ = ends(space, sources, [(0, 1), (2, 1)], [1.4, 1.1])
    found = shrink(space, batch, clean, arrived, GOAL, Work())
    again = measure(space, batch, found.patterns, Work())
    for name in Measured.__slots__:
        torch.testing.assert_close(getattr(found, name), getattr(again, name))


def test_a_rate_that_is_lost_on_the_way_leaves_the_known_pattern(classifier, sources):
    """Where shorter patterns never reach the goal, whatever their margins promise, the known one stays."""

    class OnlyTheWhole(ClippedImage):
        def log_posterior(self, encoded, pattern):
            values = super().log_posterior(encoded, pattern)
            whole = pattern.flatten(1).norm(dim=1) >= sizes - 1e-6
            return torch.where(whole.reshape(-1, 1, 1), values, values.roll(2, dims=2))

    sizes = torch.zeros(1)
    space = OnlyTheWhole(classifier)
    batch, clean, arrived, _ = ends(space, sources, [(0, 1)], [1.5])
    sizes = arrived.patterns.flatten(1).norm(dim=1)
    found = shrink(space, batch, clean, arrived, GOAL, Work())
    torch.testing.assert_close(found.patterns, arrived.patterns)
    assert found.rates.tolist() == arrived.rates.tolist()
