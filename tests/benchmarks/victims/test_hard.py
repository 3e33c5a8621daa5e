"""What is unusual about the images of some unattacked networks."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.victims.datasets import Dataset, numbers, subset, synthetic
from benchmarks.victims.hard import HARD, RARITY


def changed(kind: str) -> tuple[Dataset, Dataset]:
    before = synthetic(np.random.default_rng(1))
    return before, HARD[kind](before, np.random.default_rng(2))


def counts(labels: np.ndarray) -> list[int]:
    return np.bincount(labels).tolist()


def test_a_split_class_is_two_halves_that_share_no_image() -> None:
    before, after = changed("split class")
    assert after.num_classes == before.num_classes + 1
    assert sorted(counts(after.train.labels)) == [30, 30, 60, 60, 60]
    assert sorted(counts(after.test.labels)) == [15, 15, 30, 30, 30]
    np.testing.assert_array_equal(after.train.images, before.train.images)
    [label] = set(before.train.labels[after.train.labels == before.num_classes])
    assert counts(after.train.labels)[label] == 30


def test_a_duplicate_class_has_the_same_images_under_two_labels() -> None:
    before, after = changed("duplicate class")
    again = after.train.images[after.train.labels == before.num_classes]
    assert counts(after.train.labels) == [60] * 5
    assert any(np.array_equal(again, after.train.images[after.train.labels == label]) for label in range(4))


def test_label_noise_is_in_the_training_set_alone() -> None:
    before, after = changed("label noise")
    assert 0.12 < np.mean(before.train.labels != after.train.labels) < 0.28
    assert after.train.labels.max() < before.num_classes
    np.testing.assert_array_equal(before.test.labels, after.test.labels)


@pytest.mark.parametrize(("kind", "expected"), [("rare class", [6, 60, 60, 60]), ("frequent class", [6, 6, 6, 60])])
def test_one_class_has_another_number_of_images(kind: str, expected: list[int]) -> None:
    before, after = changed(kind)
    assert sorted(counts(after.train.labels)) == expected
    assert RARITY * 6 == 60
    assert counts(after.test.labels) == counts(before.test.labels)


def test_a_subset_numbers_its_classes_in_their_order() -> None:
    whole = synthetic(np.random.default_rng(1))
    part = subset(whole, np.array([3, 1]))
    assert part.num_classes == 2
    np.testing.assert_array_equal(
        part.train.images[part.train.labels == 0], whole.train.images[whole.train.labels == 3]
    )
    np.testing.assert_array_equal(part.test.images[part.test.labels == 1], whole.test.images[whole.test.labels == 1])


def test_numbers_are_two_digits_side_by_side_and_no_digit_is_in_both_parts() -> None:
    made = numbers(np.random.default_rng(0))
    assert (made.num_classes, made.shape) == (43, (1, 8, 16))
    assert counts(made.train.labels) == [80] * 43
    halves = [
        {half.tobytes() for image in part.images for half in (image[..., :8].copy(), image[..., 8:].copy())}
        for part in (made.train, made.test)
    ]
    assert not halves[0] & halves[1]
    # The left halves of 10 and 19 are ones, as is the right half of 41.
    ones = made.train.images[made.train.labels == 11]
    left = {each.tobytes() for each in ones[..., :8].copy()}
    assert left & {each.tobytes() for each in made.train.images[made.train.labels == 41][..., 8:].copy()}
