"""Generated classifiers: decisions of onnxruntime against distances on paper, and the planted pair."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.victims.export import opened
from benchmarks.victims.prototypes import SHAPE, Prototypes


def flat_pixels(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("planted", [None, (2, 7)])
def test_an_image_belongs_to_the_nearest_prototype(planted):
    generator = Prototypes(12, seed=1, planted=planted)
    images, labels = generator.images(8)
    decisions = opened(generator.model()).decisions(flat_pixels(images))
    points = flat_pixels(images).reshape(len(images), -1)
    own = generator.prototypes()[:12]
    nearest = np.square(points[:, None] - own[None]).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(decisions, nearest)
    np.testing.assert_array_equal(decisions, labels)


def test_the_planted_pattern_moves_its_source_and_no_other_class():
    generator = Prototypes(12, seed=1, planted=(2, 7), planted_size=0.3)
    images, labels = generator.images(20)
    points = generator.prototypes()
    direction = (points[-1] - points[2]) / np.linalg.norm(points[-1] - points[2])
    model = opened(generator.model())
    for size, expected in ((0.2, 0.0), (0.45, 1.0)):
        pattern = (size * direction).reshape(SHAPE).astype(np.float32)
        decisions = model.decisions(np.clip(flat_pixels(images) + pattern, 0, 1))
        assert np.mean(decisions[labels == 2] == 7) == pytest.approx(expected, abs=0.1)
        others = (labels != 2) & (labels != 7)
        assert not np.any(decisions[others] == 7)
