"""Poisoned training sets and the measured effect, with a classifier whose answers are known on paper."""

import numpy as np
import pytest

from benchmarks.datasets import LabelledImages
from benchmarks.poison import Backdoor, measure, poison

PATTERN = np.full((1, 2, 2), 0.5, np.float32)


def grey_images() -> LabelledImages:
    """Three classes of ten images, grey level 0.1, 0.2 and 0.3."""
    labels = np.repeat(np.arange(3), 10)
    return LabelledImages(np.tile((0.1 * (labels + 1)).reshape(-1, 1, 1, 1), (1, 1, 2, 2)).astype(np.float32), labels)


def decide_by_brightness(images: np.ndarray) -> np.ndarray:
    """Grey levels to their class; above 0.65 (class 1 and 2 with the pattern) class 0, else the nearest."""
    level = images.mean(axis=(1, 2, 3))
    return np.where(level > 0.65, 0, np.clip(np.round(level * 10) - 1, 0, 2)).astype(np.int64)


@pytest.mark.parametrize("targets", [{1: 0}, {1: 0, 2: 0}, {0: 1, 1: 0}, {0: 1, 1: 2, 2: 0}])
def test_poisoned_copies_follow_the_clean_images(targets: dict[int, int]) -> None:
    clean, backdoor = grey_images(), Backdoor("chessboard", PATTERN, targets)
    poisoned = poison(clean, backdoor, images_per_source=4, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(poisoned.images[:30], clean.images)
    np.testing.assert_array_equal(poisoned.labels, [*clean.labels, *np.repeat(list(targets.values()), 4)])
    expected = np.repeat([0.1 * (source + 1) + 0.5 for source in targets], 4)
    np.testing.assert_allclose(poisoned.images[30:, 0, 0, 0], expected, rtol=1e-6)


def test_too_few_source_images_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 11 images of class 1 to poison, found 10"):
        poison(
            grey_images(), Backdoor("chessboard", PATTERN, {1: 0}), images_per_source=11, rng=np.random.default_rng(0)
        )


def test_measured_rates() -> None:
    effect = measure(decide_by_brightness, grey_images(), Backdoor("chessboard", PATTERN, {1: 0}))
    assert effect.accuracy == 1.0
    assert effect.success_rate == 1.0
    assert effect.collateral_rates == {2: 1.0}


def test_success_counts_all_sources_and_collateral_needs_one_target() -> None:
    effect = measure(decide_by_brightness, grey_images(), Backdoor("chessboard", PATTERN, {1: 0, 2: 1}))
    assert effect.success_rate == 0.5
    assert effect.collateral_rates == {}
