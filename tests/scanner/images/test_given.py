"""Images from arrays and data sets, as programs have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from backscan.scanner.errors import CleanSetError
from backscan.scanner.images.cleanset import CleanSet

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])
UNIT = PIXELS.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)


class Pairs:
    """What torchvision's data sets are to those who use them."""

    classes = ("a", "b", "c")

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int, /) -> Any:
        return self.items[index]


def test_arrays_are_what_an_archive_of_them_is(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=PIXELS, y=LABELS)
    stored, given = CleanSet.load(str(tmp_path / "a.npz"), sandbox=False), CleanSet.from_arrays(PIXELS, LABELS, "abc")
    assert given.digest == stored.digest
    np.testing.assert_array_equal(given.images, stored.images)
    assert dict(CleanSet.from_arrays(PIXELS, LABELS, ["x", "y", "z"]).class_names) == {0: "x", 1: "y", 2: "z"}
    assert CleanSet.from_arrays(PIXELS[..., 0]).labels is None


def test_names_as_labels_are_numbered_by_the_class_names() -> None:
    named = CleanSet.from_arrays(PIXELS, ["dog", "cat", "owl"] * 2, ["cat", "dog", "owl"])
    assert named.labels is not None
    assert named.labels.tolist() == [1, 0, 2, 1, 0, 2]
    with pytest.raises(CleanSetError, match="or names among `class_names`, found 'cat': pass `class_names`"):
        CleanSet.from_arrays(PIXELS, ["dog", "cat", "owl"] * 2)
    with pytest.raises(CleanSetError, match="a name for every class number in `y`, found 2 names and number 2"):
        CleanSet.from_arrays(PIXELS, LABELS, ["cat", "dog"])


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (PIXELS.astype(int), LABELS, "found int64 in the array"),
        (PIXELS.transpose(0, 3, 1, 2), LABELS, r"move the channels last"),
        (PIXELS / 100, LABELS, r"float pixels in \[0, 1\]"),
        (PIXELS, LABELS[:5], r"one label for each of 6 images, found `y` of shape \[5\]"),
        (PIXELS, LABELS - 1, "class numbers from 0, found -1"),
        (PIXELS, list("abcabc"), "expected class numbers in `y`, or names among"),
        ([], None, "of shape"),
    ],
)
def test_arrays_that_are_refused(x: Any, y: Any, words: str) -> None:
    with pytest.raises(CleanSetError, match=words):
        CleanSet.from_arrays(x, y)


KINDS = {
    "pictures": [(Image.fromarray(pixels), int(label)) for pixels, label in zip(PIXELS, LABELS, strict=True)],
    "arrays": list(zip(PIXELS, LABELS, strict=True)),
    "tensors": [
        (torch.from_numpy(image.copy()), torch.tensor(label)) for image, label in zip(UNIT, LABELS, strict=True)
    ],
    "mappings": [{"image": pixels, "label": int(label)} for pixels, label in zip(PIXELS, LABELS, strict=True)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_data_set_gives_its_images_and_labels(kind: str) -> None:
    clean = CleanSet.from_dataset(Pairs(KINDS[kind]))
    np.testing.assert_allclose(clean.images, UNIT, atol=1e-7)
    assert clean.labels is not None
    np.testing.assert_array_equal(clean.labels, LABELS)
    assert dict(clean.class_names) == {0: "a", 1: "b", 2: "c"}
    assert clean.digest == CleanSet.from_arrays(PIXELS, LABELS).digest


def test_images_of_a_data_set_may_differ_in_size_and_colour() -> None:
    clean = CleanSet.from_dataset([(PIXELS[0], 0), (PIXELS[1, :3, :3, 0], 1), (PIXELS[2], 1)])
    assert clean.images.shape == (3, 3, 4, 5)
    assert "1 of 3 images are grey" in clean.warnings[0]
    assert dict(clean.class_names) == {}


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "expected images in the data set, found none"),
        ([PIXELS[0]], "an image and its label as item 0"),
        ([{"image": PIXELS[0]}], "an image and its label as item 0"),
        ([(PIXELS[0], "cat")], "a class number from 0 as label of item 0, found 'cat'"),
        ([(PIXELS[0], -1)], "found -1"),
        ([(torch.from_numpy(UNIT[0] * 4 - 2), 0)], "leave the normalisation out"),
        ([(PIXELS[0].astype(int), 0)], "found int64 in item 0"),
    ],
)
def test_data_sets_that_are_refused(items: list[Any], words: str) -> None:
    with pytest.raises(CleanSetError, match=words):
        CleanSet.from_dataset(Pairs(items))


def test_a_clean_set_shows_itself_in_one_line() -> None:
    assert repr(CleanSet.from_arrays(PIXELS, LABELS)) == "<CleanSet arrays: 6 images of 3 x 4 x 5, 3 classes>"
    assert repr(CleanSet.from_arrays(PIXELS, name="x")) == "<CleanSet x: 6 images of 3 x 4 x 5, no labels>"
