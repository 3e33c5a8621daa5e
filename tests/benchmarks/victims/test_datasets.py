"""Data sets: splits, and CIFAR-10 in each form it is passed around in."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.victims.cifar10 import read_cifar10
from benchmarks.victims.datasets import digits, load_dataset, synthetic

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHARED = Path(__file__).parents[3].parent / "shared"


def images_and_labels(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Small stand-ins for CIFAR-10: bytes [N, 3, 32, 32] and labels [N], every class there."""
    rng = np.random.default_rng(len(split))
    count = 20 if split == "train" else 10
    return rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), np.arange(count) % 10


def python_batches(folder: Path) -> None:
    folder = folder / "cifar-10-batches-py"
    folder.mkdir()
    pixels, labels = images_and_labels("train")
    parts = [(f"data_batch_{i + 1}", pixels[4 * i : 4 * i + 4], labels[4 * i : 4 * i + 4]) for i in range(5)]
    for name, part, part_labels in [*parts, ("test_batch", *images_and_labels("test"))]:
        batch = {b"data": part.reshape(len(part), -1), b"labels": part_labels.tolist(), b"batch_label": b"x"}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


def binary_batches(folder: Path) -> None:
    pixels, labels = images_and_labels("train")
    parts = [(f"data_batch_{i + 1}", pixels[4 * i : 4 * i + 4], labels[4 * i : 4 * i + 4]) for i in range(5)]
    for name, part, part_labels in [*parts, ("test_batch", *images_and_labels("test"))]:
        records = np.concatenate([part_labels[:, None].astype(np.uint8), part.reshape(len(part), -1)], axis=1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())


def image_folders(folder: Path) -> None:
    for split in ("train", "test"):
        for index, (image, label) in enumerate(zip(*images_and_labels(split), strict=True)):
            path = folder / split / NAMES[label] / f"{index:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(path)


def one_archive(folder: Path) -> None:
    arrays = {}
    for split in ("train", "test"):
        pixels, labels = images_and_labels(split)
        arrays |= {f"x_{split}": pixels.transpose(0, 2, 3, 1), f"y_{split}": labels[:, None]}
    np.savez(folder / "cifar10.npz", **arrays)


def sheet(images: np.ndarray) -> bytes:
    """One lossless picture of 25 x 40 tiles, the images first and black after them."""
    picture = np.zeros((25 * 32, 40 * 32, 3), np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, 40)
        picture[32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = image.transpose(1, 2, 0)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def sheet_archives(folder: Path) -> None:
    def packed(split: str, part: slice) -> dict[str, np.ndarray]:
        pixels, labels = (array[part] for array in images_and_labels(split))
        content = sheet(pixels)
        return {
            f"{split}_blob": np.frombuffer(content, np.uint8),
            f"{split}_off": np.array([0, len(content)]),
            f"{split}_y": labels.astype(np.uint8),
        }

    np.savez(folder / "part1.npz", **packed("train", slice(12)))
    np.savez(folder / "part2.npz", **packed("train", slice(12, 20)), **packed("test", slice(10)))


@pytest.mark.parametrize("write", [python_batches, binary_batches, image_folders, one_archive, sheet_archives])
def test_every_form_gives_the_same_images(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path)
    for split, read in zip(("train", "test"), read_cifar10(tmp_path), strict=True):
        pixels, labels = images_and_labels(split)
        order = np.argsort(labels, kind="stable") if write is image_folders else np.arange(len(labels))
        np.testing.assert_array_equal(read.labels, labels[order])
        np.testing.assert_allclose(read.images * 255, pixels[order], atol=1e-4)
        assert read.images.dtype == np.float32


def test_a_pickle_of_anything_but_arrays_is_not_opened(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "harmed"),)

    python_batches(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps({b"data": Harmful()}))
    with pytest.raises(pickle.UnpicklingError, match=r"found posix\.mkdir in it"):
        read_cifar10(tmp_path)
    assert not (tmp_path / "harmed").exists()


def test_a_folder_without_cifar10_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found none of them"):
        read_cifar10(tmp_path)
    with pytest.raises(ValueError, match="pass --cifar10"):
        load_dataset("cifar10", seed=0)
    with pytest.raises(ValueError, match="got 'imagenet'"):
        load_dataset("imagenet", seed=0)


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the shared CIFAR-10 archives are not beside the checkout")
@pytest.mark.slow
def test_the_shared_archives_are_all_of_cifar10() -> None:
    train, test = read_cifar10(SHARED / "data")
    assert np.bincount(train.labels).tolist() == [5000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10


def test_digits_are_split_by_class_without_overlap() -> None:
    first, again, other = (digits(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert len(first.train.labels) + len(first.test.labels) == 1797
    assert np.bincount(first.test.labels).tolist() == [60] * 10
    assert first.shape == (1, 8, 8)
    np.testing.assert_array_equal(first.test.images, again.test.images)
    assert not np.array_equal(first.test.images, other.test.images)


def test_synthetic_classes_are_told_apart_by_their_prototypes() -> None:
    dataset = synthetic(np.random.default_rng(0))
    means = np.stack([dataset.train.images[dataset.train.labels == label].mean(axis=0) for label in range(4)])
    distances = ((dataset.test.images[:, None] - means[None]) ** 2).sum(axis=(2, 3, 4))
    np.testing.assert_array_equal(distances.argmin(axis=1), dataset.test.labels)
    assert dataset.train.images.min() >= 0
    assert dataset.train.images.max() <= 1
