"""Training sets that are hard to judge though nothing is planted: one function a kind, one line in `HARD` each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from benchmarks.victims.datasets import Dataset, LabelledImages

Change = Callable[[Dataset, np.random.Generator], Dataset]
NOISE_SHARE = 0.2
"""Share of wrong labels."""
RARITY = 10
"""How many times fewer, or more, images one class has than the others."""


def split_class(dataset: Dataset, rng: np.random.Generator) -> Dataset:
    """Two classes split at random from one: half of its images become a class of their own."""
    label = rng.integers(dataset.num_classes)

    def halved(data: LabelledImages) -> LabelledImages:
        members = np.flatnonzero(data.labels == label)
        labels = data.labels.copy()
        labels[rng.permutation(members)[: len(members) // 2]] = dataset.num_classes
        return LabelledImages(data.images, labels)

    return replace(dataset, train=halved(dataset.train), test=halved(dataset.test), num_classes=dataset.num_classes + 1)


def duplicate_class(dataset: Dataset, rng: np.random.Generator) -> Dataset:
    """The same class under two labels: all its images are there twice."""
    label = rng.integers(dataset.num_classes)

    def doubled(data: LabelledImages) -> LabelledImages:
        again = data.take(np.flatnonzero(data.labels == label))
        return data.joined(LabelledImages(again.images, np.full(len(again.labels), dataset.num_classes, np.int64)))

    return replace(
        dataset, train=doubled(dataset.train), test=doubled(dataset.test), num_classes=dataset.num_classes + 1
    )


def label_noise(dataset: Dataset, rng: np.random.Generator) -> Dataset:
    """A fifth of the training images have a wrong label, drawn from the other classes."""
    wrong = rng.random(len(dataset.train.labels)) < NOISE_SHARE
    shifts = rng.integers(1, dataset.num_classes, len(wrong))
    labels = np.where(wrong, (dataset.train.labels + shifts) % dataset.num_classes, dataset.train.labels)
    return replace(dataset, train=LabelledImages(dataset.train.images, labels.astype(np.int64)))


def rare_class(dataset: Dataset, rng: np.random.Generator) -> Dataset:
    """One class has a tenth of its training images."""
    label = rng.integers(dataset.num_classes)
    return _kept(dataset, dataset.train.labels != label, rng)


def frequent_class(dataset: Dataset, rng: np.random.Generator) -> Dataset:
    """One class is ten times as frequent as the others, which lose nine tenths of their training images."""
    label = rng.integers(dataset.num_classes)
    return _kept(dataset, dataset.train.labels == label, rng)


def _kept(dataset: Dataset, whole: NDArray[np.bool_], rng: np.random.Generator) -> Dataset:
    """The training images that stay whole, and every tenth of each other class."""
    labels = dataset.train.labels
    chosen = [np.flatnonzero(whole)]
    for label in np.unique(labels[~whole]):
        members = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(members[: len(members) // RARITY])
    return replace(dataset, train=dataset.train.take(np.sort(np.concatenate(chosen))))


HARD: Mapping[str, Change] = MappingProxyType(
    {
        "split class": split_class,
        "duplicate class": duplicate_class,
        "label noise": label_noise,
        "rare class": rare_class,
        "frequent class": frequent_class,
    }
)
"""What is unusual about the images, by name. What is unusual about the training stands in the schedule."""
