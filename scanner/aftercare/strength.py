"""How strongly images carry a pattern, by their pixels and by what the model's last layer reads of them.

A recovered pattern may look unlike the planted one, and yet the model takes both for the same. So a second linear
filter looks at the features that the last layer reads: from what they are on clean images towards what they are with
the recovered pattern, whitened by the clean images (Fisher's discriminant, its covariance shrunk). The larger of the
two counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from backscan.scanner.aftercare.guard import Guard, Pixels

Matrix = NDArray[np.float64]

_LEAST_CARRIERS = 5
"""Images that the pattern has to move before what they have in common is believed."""
_SHRINKAGE = 0.1
"""What is added to the variance of each feature, as a share of the mean over all."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear function of what belongs to an image."""

    weights: NDArray[np.float32]
    """Weights in the shape of what it is of."""
    offset: float
    """What is added to their product."""
    centre: NDArray[np.float32] | None = None
    """What is taken off the values first, in their shape; None is nothing.

    Without it the product of values far from zero with the weights would be the small difference of two large numbers,
    of which 32 bits keep little.
    """

    def of(self, values: NDArray[np.float32]) -> Matrix:
        """Its values [N] of N such arrays."""
        rows = values.reshape(len(values), -1).astype(np.float64)
        rows = rows if self.centre is None else rows - self.centre.reshape(-1)
        products: Matrix = rows @ self.weights.reshape(-1).astype(np.float64) + self.offset
        return products

    def times(self, factor: float) -> Linear:
        """The function, larger or smaller by a factor."""
        return Linear((self.weights * factor).astype(np.float32), self.offset * factor, self.centre)


@dataclass(frozen=True, slots=True)
class Strength:
    """How strongly images carry a pattern: 0 on a mean clean image, 1 where the pattern shows most clearly."""

    pixels: Linear
    """By the pixels."""
    features: Linear | None = None
    """By what the last layer reads; None leaves it out."""

    def of(self, images: Pixels, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score of each image.

        Args:
            images: [N, C, H, W], float32 RGB pixels in [0, 1].
            features: What the last layer reads of them, [N, F]; ignored where only pixels count.

        Returns:
            float32 [N] in [0, 1].
        """
        found = self.pixels.of(images)
        if self.features is not None:
            found = np.maximum(found, self.features.of(features))
        return np.clip(found, 0.0, 1.0).astype(np.float32)


class Inside(Protocol):
    """What is read of a model."""

    @property
    def tensor(self) -> str:
        """Name of the value; empty if there is none of use."""

    @property
    def values(self) -> NDArray[np.float32]:
        """A row an image, [N, F]."""


class Asked(Protocol):
    """A model that can be asked what it makes of images [N, C, H, W] in [0, 1]."""

    def decisions(self, images: Pixels) -> NDArray[np.int64]:
        """Its decisions, [N]."""

    def read_features(self, images: Pixels) -> Inside:
        """What its last layer reads."""


def of_pixels(guard: Guard) -> Strength:
    """The filter of pixels alone."""
    return Strength(Linear(guard.weights, guard.offset))


def made_for(model: Asked, guard: Guard, clean: Pixels, labels: NDArray[np.int64]) -> tuple[Strength, str]:
    """What scores images of a model.

    Args:
        model: The model.
        guard: The filter of pixels, and the pattern.
        clean: Clean images [N, C, H, W] in [0, 1] that make the filter of features.
        labels: What they are, [N].

    Returns:
        The filters, and the value of the model that one of them looks at; empty where the pixels count alone.
    """
    read, target = model.read_features(clean), guard.planted.found.target
    if not read.tensor:
        return of_pixels(guard), ""
    carrying = guard.planted.embed(clean[labels != target])
    carrying = carrying[model.decisions(carrying) == target] if len(carrying) else carrying
    inside = model.read_features(carrying).values if len(carrying) else read.values[:0]
    strength = strength_of(guard, clean, read.values, inside)
    return strength, read.tensor if strength.features is not None else ""


def strength_of(guard: Guard, clean: Pixels, features: NDArray[np.float32], carrying: NDArray[np.float32]) -> Strength:
    """The two filters of a pattern, each in units of how far it spreads on clean images, so that one threshold serves.

    Args:
        guard: The filter of pixels.
        clean: Clean images, [N, C, H, W].
        features: What the last layer reads of them, [N, F].
        carrying: The same of those among other classes' images that the pattern moves to its target, [M, F].

    Returns:
        Both, or the pixels alone where the pattern moves fewer than five images or leaves features as they are.
    """
    pixels = of_pixels(guard).pixels
    usable = len(carrying) >= _LEAST_CARRIERS and np.isfinite(features).all() and np.isfinite(carrying).all()
    inside = _discriminant(features, carrying) if usable else None
    halves = (features[::2], features[1::2])
    crossed = [_discriminant(one, carrying) for one in halves] if inside is not None else []
    if inside is None or any(each is None for each in crossed):
        return Strength(pixels)
    # Each half as the filter of the other half scores it: one that was made of them would call them too much alike.
    unseen = [each.of(half) for each, half in zip(crossed, halves[::-1], strict=True) if each is not None]
    spreads = np.array([pixels.of(clean).std(), np.concatenate(unseen).std()])
    if not (spreads > 0).all():
        return Strength(pixels)
    factors = spreads.min() / spreads
    return Strength(pixels.times(float(factors[0])), inside.times(float(factors[1])))


def _discriminant(clean: NDArray[np.float32], carrying: NDArray[np.float32]) -> Linear | None:
    """Fisher's discriminant: 0 on the mean of clean images, 1 on the mean of the others; None where both are alike."""
    mean = clean.astype(np.float64).mean(axis=0)
    centred = clean - mean
    towards = carrying.astype(np.float64).mean(axis=0) - mean
    count, floor = len(centred), _SHRINKAGE * float(np.square(centred).mean())
    if not floor > 0:
        return None
    if centred.shape[1] <= count:
        covariance = centred.T @ centred / count + floor * np.eye(centred.shape[1])
        weights = np.linalg.solve(covariance, towards)
    else:  # the same by images rather than features (Woodbury)
        inner = centred @ centred.T / count + floor * np.eye(count)
        weights = (towards - centred.T @ np.linalg.solve(inner, centred @ towards) / count) / floor
    gain = float(weights @ towards)
    if not gain > 0:
        return None
    centre = mean.astype(np.float32)
    return Linear((weights / gain).astype(np.float32), float(weights @ (centre - mean)) / gain, centre)
