"""Labels in another order than the model's are told with the order."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from backscan.converters import Normalisation
from backscan.scanner.config import ScanConfig
from backscan.scanner.images.candidates import candidate
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.images.label_order import order_note
from backscan.scanner.images.preprocessing import settle_preprocessing

CLASSES = 12
AS_TEXT = np.array(sorted(range(CLASSES), key=str))  # folder -> class: 0, 1, 10, 11, 2, ...
TRUE = np.repeat(np.arange(CLASSES), 12)


def noted(labels: NDArray[np.int64], decisions: NDArray[np.int64], least: float = 0.6) -> str:
    return order_note(labels, [lambda indices: decisions[indices]], least)


def test_folders_sorted_as_text_are_named_as_the_cause() -> None:
    labels = np.argsort(AS_TEXT)[TRUE]
    note = noted(labels, TRUE)
    assert "another order of the labels explains 100% of the images (label 2 is 10, 3 is 11, 4 is 2, 5 is 3" in note
    assert "the order of folders sorted as text (0, 1, 10, 11, ..., 2) when they were numbered" in note
    assert "--labels" in note


def test_a_model_that_was_trained_on_sorted_folders() -> None:
    note = noted(TRUE, np.argsort(AS_TEXT)[TRUE])
    assert "(label 2 is 4, 3 is 5, 4 is 6" in note
    assert "as the model was trained on folders sorted as text" in note


def test_any_order_is_found_even_where_the_model_errs() -> None:
    rng = np.random.default_rng(0)
    order = rng.permutation(CLASSES)
    decisions = np.where(rng.random(len(TRUE)) < 0.2, rng.integers(CLASSES, size=len(TRUE)), order[TRUE])
    note = noted(TRUE, decisions)
    moved = np.flatnonzero(order != np.arange(CLASSES))
    assert f"label {moved[0]} is {order[moved[0]]}" in note
    assert "sorted as text" not in note


@pytest.mark.parametrize("seed", range(5))
def test_chance_is_no_order(seed: int) -> None:
    """With so few images some order always explains many of those it was found on, but not the others."""
    few = np.repeat(np.arange(CLASSES), 6)
    assert noted(few, np.random.default_rng(seed).integers(CLASSES, size=len(few)), least=0.3) == ""


def test_no_order_from_a_class_of_one_image_or_where_none_moves() -> None:
    assert noted(np.arange(CLASSES), AS_TEXT) == ""
    assert noted(TRUE, np.zeros_like(TRUE)) == ""
    assert noted(TRUE, TRUE) == ""


def test_the_doubt_of_the_preprocessing_names_the_order() -> None:
    """No candidate is accurate under wrong labels, so all are asked for the order."""
    images = np.zeros((len(TRUE), 1, 2, 2), np.float32) + (TRUE / CLASSES)[:, None, None, None].astype(np.float32)

    def decide(pixels: NDArray[np.float32], normalisation: Normalisation) -> NDArray[np.int64]:
        right = np.round(pixels[:, 0, 0, 0] * CLASSES).astype(np.int64)
        return right if normalisation == candidate("mnist") else np.zeros_like(right)

    clean = CleanSet(images, np.argsort(AS_TEXT)[TRUE], "data", "", {})
    doubt = settle_preprocessing(clean, decide, ScanConfig()).doubt
    assert doubt is not None
    assert doubt.startswith("expected a clean accuracy of at least")
    assert "label 2 is 10" in doubt
    given = settle_preprocessing(clean, decide, ScanConfig(preprocess="mnist")).doubt
    assert given is not None
    assert "label 2 is 10" in given
    right = CleanSet(images, TRUE, "data", "", {})
    assert settle_preprocessing(right, decide, ScanConfig()).doubt is None
