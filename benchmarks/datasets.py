"""Images to train and test victims on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Images with their classes."""

    images: NDArray[np.float32]
    """[N, C, H, W] in [0, 1], RGB or one channel."""
    labels: NDArray[np.int64]
    """[N] class numbers."""

    def take(self, indices: NDArray[np.int64]) -> "LabelledImages":
        """The images at the given indices, in their order."""
        return LabelledImages(self.images[indices], self.labels[indices])


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
    levels = np.round(bunch.images * (255 / 16)).astype(np.float32)
    data = LabelledImages((levels / 255)[:, np.newaxis], bunch.target.astype(np.int64))
    train, test = split_by_class(data.labels, test_per_class, rng)
    return Dataset("digits", data.take(train), data.take(test), num_classes=10)


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
