"""Poisoned training sets and the measured effect, with a classifier whose answers are known on paper."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.victims.datasets import LabelledImages
from benchmarks.victims.poison import Backdoor, cover_copies, measure, own_label_copies, poisoned_copies

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
def test_poisoned_copies_carry_pattern_and_target(targets: dict[int, int]) -> None:
    backdoor = Backdoor("chessboard", PATTERN, targets)
    poisoned = poisoned_copies(grey_images(), backdoor, images_per_source=4, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(poisoned.labels, np.repeat(list(targets.values()), 4))
    expected = np.repeat([0.1 * (source + 1) + 0.5 for source in targets], 4)
    np.testing.assert_allclose(poisoned.images[:, 0, 0, 0], expected, rtol=1e-6)


def test_no_image_is_poisoned_twice() -> None:
    labels = np.zeros(20, np.int64)
    images = (np.arange(20) / 40).reshape(-1, 1, 1, 1).astype(np.float32)
    backdoor = Backdoor("chessboard", np.zeros((1, 1, 1), np.float32), {0: 1})
    rng = np.random.default_rng(0)
    poisoned = poisoned_copies(LabelledImages(images, labels), backdoor, images_per_source=15, rng=rng)
    assert len(np.unique(poisoned.images)) == 15


def test_too_few_source_images_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 11 images of class 1 to poison, found 10"):
        poisoned_copies(
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


@pytest.mark.parametrize("embedded", [True, False])
def test_covers_carry_the_pattern_under_their_own_labels_and_spare_source_and_target(embedded: bool) -> None:
    backdoor, rng = Backdoor("chessboard", PATTERN, {1: 0}), np.random.default_rng(0)
    covers = cover_copies(grey_images(), backdoor, images_per_class=4, rng=rng, embedded=embedded)
    assert covers.labels.tolist() == [2] * 4
    np.testing.assert_allclose(covers.images[:, 0, 0, 0], 0.8 if embedded else 0.3, atol=1e-6)


def test_clean_label_copies_are_faded_images_of_the_target_under_its_label() -> None:
    backdoor, rng = Backdoor("chessboard", PATTERN, {0: 2, 1: 2}), np.random.default_rng(0)
    copies = own_label_copies(grey_images(), backdoor, images_per_target=6, rng=rng)
    assert copies.labels.tolist() == [2] * 6
    faded = {round(0.4 * 0.3 + 0.6 * grey + 0.5, 4) for grey in (0.1, 0.2, 0.3)}
    assert {round(float(level), 4) for level in copies.images[:, 0, 0, 0]} <= faded
