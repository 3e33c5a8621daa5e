"""The images of a plan: its data set, some of its classes, and what is unusual about them."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from benchmarks.victims.datasets import Dataset, LabelledImages, load_dataset, subset
from benchmarks.victims.hard import HARD
from benchmarks.victims.plans import Plan

_SHARED = frozenset({"cifar10", "synthetic"})
"""Data whose images are the same for all seeds; one copy in memory serves all victims."""


def clean_images(plan: Plan, *, cifar10: Path | None = None) -> LabelledImages:
    """Images that a victim never saw in training: for the defender to scan it with."""
    return all_images(plan, cifar10).test


def all_images(plan: Plan, cifar10: Path | None) -> Dataset:
    """All images of a plan: some classes, and what is unusual about them."""
    dataset = _read_dataset(plan.dataset, 0 if plan.dataset in _SHARED else plan.seed, cifar10)
    if plan.classes is not None:
        dataset = subset(dataset, rng_for(plan, 6).choice(dataset.num_classes, plan.classes, replace=False))
    return dataset if plan.hard is None else HARD[plan.hard](dataset, rng_for(plan, 7))


@lru_cache(maxsize=4)
def _read_dataset(name: str, seed: int, folder: Path | None) -> Dataset:
    return load_dataset(name, seed=seed, folder=folder)


def training_set(dataset: Dataset, plan: Plan) -> Dataset:
    """The data set with as many training images as the plan wants."""
    if plan.train_images is None:
        return dataset
    drawn = rng_for(plan, 4).choice(len(dataset.train.labels), plan.train_images, replace=False)
    return replace(dataset, train=dataset.train.take(drawn))


def rng_for(plan: Plan, purpose: int) -> np.random.Generator:
    """Random numbers for one purpose, the same whatever else is drawn."""
    return np.random.default_rng((plan.seed, purpose))
