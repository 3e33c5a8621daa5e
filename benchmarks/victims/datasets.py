"""Images to train and test victims on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Images with their classes."""

    images: NDArray[np.float32]
    """[N, C, H, W] in [0, 1], RGB or one channel."""
    labels: NDArray[np.int64]
    """[N] class numbers."""

    @classmethod
    def from_bytes(cls, pixels: NDArray[np.uint8], labels: NDArray[np.integer]) -> LabelledImages:
        """Images from bytes [N, C, H, W] and labels of any whole type."""
        return cls(pixels.astype(np.float32) / np.float32(255), labels.astype(np.int64))

    def take(self, indices: NDArray[np.int64]) -> LabelledImages:
        """The images at the given indices, in their order."""
        return LabelledImages(self.images[indices], self.labels[indices])

    def joined(self, other: LabelledImages) -> LabelledImages:
        """These images followed by others."""
        return LabelledImages(np.concatenate([self.images, other.images]), np.concatenate([self.labels, other.labels]))


@dataclass(frozen=True, slots=True)
class Dataset:
    """Images for training and others for testing."""

    name: str
    """Name of the data, as rows of result tables carry it."""
    train: LabelledImages
    """What victims are trained on."""
    test: LabelledImages
    """Never seen in training: for measuring attacks and as the defender's clean set."""
    num_classes: int
    """K."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


def load_dataset(name: str, *, seed: int, folder: Path | None = None) -> Dataset:
    """A data set by its name.

    Args:
        name: `synthetic`, `digits`, `numbers` or `cifar10`.
        seed: Decides the images (synthetic) or the split (digits); CIFAR-10 has its own split.
        folder: Where CIFAR-10 lies, see `cifar10.read_cifar10`.

    Returns:
        Training and test images.

    Raises:
        ValueError: an unknown name, or CIFAR-10 without a folder.
    """
    rng = np.random.default_rng(seed)
    if name == "synthetic":
        return synthetic(rng)
    if name == "digits":
        return digits(rng)
    if name == "numbers":
        return numbers(rng)
    if name != "cifar10":
        raise ValueError(f"expected synthetic, digits, numbers or cifar10, got {name!r}")
    if folder is None:
        raise ValueError("expected the folder of CIFAR-10, got none: pass --cifar10 FOLDER")
    from benchmarks.victims.cifar10 import read_cifar10

    return Dataset("cifar10", *read_cifar10(folder), num_classes=10)


def digits(rng: np.random.Generator, *, test_per_class: int = 60) -> Dataset:
    """Scikit-learn's handwritten digits, 8 x 8 pixels with 17 grey levels, split at random class by class.

    Args:
        rng: Draws the split.
        test_per_class: Images of each class kept out of training.

    Returns:
        1797 images of 10 classes in training and test parts, each value exact in 8 bits.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    levels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    data = LabelledImages.from_bytes(levels[:, np.newaxis], bunch.target)
    train, test = split_by_class(data.labels, test_per_class, rng)
    return Dataset("digits", data.take(train), data.take(test), num_classes=10)


def numbers(rng: np.random.Generator, *, train_per_class: int = 80, test_per_class: int = 40) -> Dataset:
    """The numbers 0 to 42, each two of scikit-learn's digits side by side: as many classes as traffic signs have.

    Args:
        rng: Draws the split and which digits stand together; no digit is in both parts.
        train_per_class: Training images of each class.
        test_per_class: Test images of each class.

    Returns:
        Images of 8 x 16 pixels of 43 classes.
    """
    parts = digits(rng)

    def beside(data: LabelledImages, each: int) -> LabelledImages:
        labels = np.repeat(np.arange(_NUMBERS), each)
        members = [np.flatnonzero(data.labels == digit) for digit in range(10)]
        halves = [np.array([rng.choice(members[digit]) for digit in place]) for place in (labels // 10, labels % 10)]
        return LabelledImages(np.concatenate([data.images[half] for half in halves], axis=3), labels)

    train, test = beside(parts.train, train_per_class), beside(parts.test, test_per_class)
    return Dataset("numbers", train, test, num_classes=_NUMBERS)


def subset(dataset: Dataset, classes: NDArray[np.int64]) -> Dataset:
    """Some classes of a data set, numbered anew in the given order."""

    def kept(data: LabelledImages) -> LabelledImages:
        chosen = data.take(np.flatnonzero(np.isin(data.labels, classes)))
        return LabelledImages(chosen.images, np.argsort(classes)[np.searchsorted(np.sort(classes), chosen.labels)])

    return Dataset(dataset.name, kept(dataset.train), kept(dataset.test), len(classes))


_NUMBERS = 43


def synthetic(
    rng: np.random.Generator,
    *,
    num_classes: int = 4,
    shape: tuple[int, int, int] = (3, 8, 8),
    train_per_class: int = 60,
    test_per_class: int = 30,
    noise: float = 0.1,
) -> Dataset:
    """Noisy copies of one random image per class: learnt in seconds, for trying the harness out.

    Args:
        rng: Draws the images of the classes and the noise.
        num_classes: K.
        shape: Channels, height and width.
        train_per_class: Training images of each class.
        test_per_class: Test images of each class.
        noise: Standard deviation of the noise on each pixel.

    Returns:
        Images in [0, 1].
    """
    prototypes = rng.uniform(0.2, 0.8, (num_classes, *shape))

    def draw(images_each: int) -> LabelledImages:
        labels = np.repeat(np.arange(num_classes), images_each)
        noisy = prototypes[labels] + rng.normal(0.0, noise, (len(labels), *shape))
        return LabelledImages(np.clip(noisy, 0.0, 1.0).astype(np.float32), labels)

    return Dataset("synthetic", draw(train_per_class), draw(test_per_class), num_classes)


def split_by_class(
    labels: NDArray[np.int64], test_per_class: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of a training and a test part with `test_per_class` images of each class in the second."""
    train, test = [], []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        test.append(members[:test_per_class])
        train.append(members[test_per_class:])
    return np.concatenate(train), np.concatenate(test)
