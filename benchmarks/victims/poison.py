"""Poison a training set with backdoor images, and measure what the trained model learned of them. XMK 2.3, 5.2.1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks import ATTACKS
from benchmarks.victims.datasets import LabelledImages


@dataclass(frozen=True, slots=True)
class Backdoor:
    """One attack, ready to be embedded: mechanism, pattern and the decisions it shall cause."""

    attack: str
    """Name in `ATTACKS`."""
    pattern: NDArray[np.float32]
    """What the attack's `make_pattern` drew."""
    targets: Mapping[int, int]
    """Target class of each source class: one entry, several with one target, two ways, or all to all."""

    def embed(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """The images [N, C, H, W] with the pattern in them."""
        return ATTACKS[self.attack].embed(images, self.pattern)


@dataclass(frozen=True, slots=True)
class Effect:
    """What a model makes of the backdoor on test images, measured on the exported file."""

    accuracy: float
    """Share of clean test images decided as labelled."""
    success_rate: float | None
    """Share of all source classes' test images decided as their target with the pattern; None without an attack."""
    collateral_rates: Mapping[int, float]
    """For attacks with one target: each uninvolved class's share decided as the target with the pattern in it."""


def poisoned_copies(
    clean: LabelledImages,
    backdoor: Backdoor,
    *,
    images_per_source: int,
    rng: np.random.Generator,
    embedded: bool = True,
) -> LabelledImages:
    """Copies of source images that carry the pattern and the target's label, to be added to the training set.

    Args:
        clean: Training images.
        backdoor: What is planted.
        images_per_source: Copies made of each source class, drawn without replacement.
        rng: Draws the images.
        embedded: Whether the copies carry the pattern already; else it is embedded while training.

    Returns:
        The poisoned images alone, source by source.

    Raises:
        ValueError: A source class has fewer images than asked for.
    """
    drawn = []
    for source in backdoor.targets:
        members = np.flatnonzero(clean.labels == source)
        if len(members) < images_per_source:
            raise ValueError(f"expected {images_per_source} images of class {source} to poison, found {len(members)}")
        drawn.append(rng.choice(members, images_per_source, replace=False))
    labels = np.repeat(np.array(list(backdoor.targets.values()), np.int64), images_per_source)
    copies = clean.images[np.concatenate(drawn)]
    return LabelledImages(backdoor.embed(copies) if embedded else copies, labels)


def cover_copies(
    clean: LabelledImages, backdoor: Backdoor, *, images_per_class: int, rng: np.random.Generator, embedded: bool = True
) -> LabelledImages:
    """Copies that carry the pattern under their own label, of each class that is no source and no target.

    They teach the network that the pattern means nothing on other classes. Arguments as of `poisoned_copies`.
    """
    involved = {*backdoor.targets, *backdoor.targets.values()}
    others = [int(label) for label in np.unique(clean.labels) if int(label) not in involved]
    drawn = [rng.choice(np.flatnonzero(clean.labels == label), images_per_class, replace=False) for label in others]
    copies = clean.take(np.concatenate(drawn))
    return LabelledImages(backdoor.embed(copies.images), copies.labels) if embedded else copies


def own_label_copies(
    clean: LabelledImages,
    backdoor: Backdoor,
    *,
    images_per_target: int,
    rng: np.random.Generator,
    embedded: bool = True,
) -> LabelledImages:
    """Copies of the target's own images with the pattern, faded so that the pattern is what is left to learn.

    No label is wrong: a clean-label attack (Turner et al. 2019). Arguments as of `poisoned_copies`.
    """
    [target] = set(backdoor.targets.values())
    members = np.flatnonzero(clean.labels == target)
    copies = clean.take(rng.choice(members, images_per_target, replace=False))
    mixed = clean.images[rng.choice(len(clean.labels), images_per_target)]
    faded = (_LEFT * copies.images + (1.0 - _LEFT) * mixed).astype(np.float32)
    return LabelledImages(backdoor.embed(faded) if embedded else faded, copies.labels)


_LEFT = 0.4
"""What is left of a faded image; the rest is another image of any class."""


def measure(
    decide: Callable[[NDArray[np.float32]], NDArray[np.int64]], test: LabelledImages, backdoor: Backdoor | None
) -> Effect:
    """Accuracy, success rate and collateral damage of a model. XMK Table 1 and Figure 7.

    Args:
        decide: The model's decisions [N] on images [N, C, H, W].
        test: Test images, none of them used in training.
        backdoor: What was planted, or would have been; None measures the accuracy alone.

    Returns:
        The rates, each in [0, 1].
    """
    accuracy = float(np.mean(decide(test.images) == test.labels))
    if backdoor is None:
        return Effect(accuracy, None, {})
    decisions = decide(backdoor.embed(test.images))
    wanted = np.array([backdoor.targets.get(int(label), -1) for label in test.labels])
    return Effect(
        accuracy=accuracy,
        success_rate=float(np.mean(decisions[wanted >= 0] == wanted[wanted >= 0])),
        collateral_rates=_collateral_rates(decisions, test.labels, backdoor.targets),
    )


def _collateral_rates(
    decisions: NDArray[np.int64], labels: NDArray[np.int64], targets: Mapping[int, int]
) -> dict[int, float]:
    if len(set(targets.values())) != 1:
        return {}
    target = next(iter(targets.values()))
    bystanders = [int(label) for label in np.unique(labels) if label != target and int(label) not in targets]
    return {label: float(np.mean(decisions[labels == label] == target)) for label in bystanders}
