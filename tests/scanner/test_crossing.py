"""The crossing of the goal rate, against the least share of the step that reaches it on paper."""

from __future__ import annotations

import math

import pytest
import torch

from backscan.scanner.batch import Batch, Sources
from backscan.scanner.crossing import Bracket, measure, refine
from backscan.scanner.perturb import Work
from backscan.scanner.spaces import ClippedImage
from tests.scanner.linear import GOAL, LinearClassifier, grey_images, linear_classifier

STEP = 0.1
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


def ends(classifier, sources, pairs, offsets):
    """Batch, and patterns along the weights one step apart, the crossing in between at a share given by `offsets`."""
    batch = Batch.of(pairs, sources)
    direction = classifier.weights / classifier.weights.norm()
    least = torch.tensor(
        [
            float(classifier.least_sizes(images[counted]).sort().values[math.ceil(GOAL * int(counted.sum())) - 1])
            for images, counted in zip(batch.encoded, batch.counted, strict=True)
        ]
    )
    lengths = least - STEP * torch.tensor(offsets)
    space = ClippedImage(classifier)
    below, above = (
        measure(space, batch, (lengths + step).reshape(-1, 1, 1, 1) * direction, Work()) for step in (0.0, STEP)
    )
    return batch, below, above, least


@pytest.mark.parametrize("share", [0.02, 0.3, 0.71, 0.98])
def test_finds_the_crossing_to_a_64th_of_the_step(classifier, sources, share):
    batch, below, above, least = ends(classifier, sources, [(0, 1), (2, 1)], [share, 1 - share])
    work = Work()
    found = refine(ClippedImage(classifier), batch, Bracket(below, above, torch.ones(len(batch.targets))), GOAL, work)
    assert bool((found.rates >= GOAL).all())
    sizes = found.patterns.flatten(1).norm(dim=1)
    assert bool((sizes >= least - 1e-5).all())
    assert bool((sizes <= least + STEP / 64 + 1e-5).all())
    # Six bisections of all images would be 480 image passes.
    assert work.forwards < 250


def test_images_between_the_ends_that_go_back_leave_the_known_pattern(classifier, sources):
    """Where the rate in between is not what the ends promise, the end that is known to reach the goal stays."""

    class Fickle(ClippedImage):
        def log_posterior(self, encoded, pattern):
            values = super().log_posterior(encoded, pattern)
            return values if encoded.shape[1] < NUM_IMAGES else values.roll(1, dims=2)

    batch, below, above, _ = ends(classifier, sources, [(0, 1)], [0.5])
    found = refine(Fickle(classifier), batch, Bracket(below, above, torch.ones(len(batch.targets))), GOAL, Work())
    torch.testing.assert_close(found.patterns, above.patterns)
    assert found.rates.tolist() == above.rates.tolist()
