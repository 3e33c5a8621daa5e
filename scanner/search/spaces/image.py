"""Patterns that change the image: clipped, by any of the ways in the table, or added in a box."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backscan.scanner.search.spaces.additive import Additive
from backscan.scanner.search.spaces.base import Change

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.converters import TorchClassifier


@dataclass(frozen=True, slots=True)
class ClippedImage:
    """Patterns change the image and the result is clipped to [0, 1]: they are added, equation (2), or act otherwise."""

    classifier: TorchClassifier
    """Differentiable copy of the model."""
    change: Change = field(default_factory=Additive)
    """What a pattern does to an image."""

    @property
    def name(self) -> str:
        """What results call it."""
        return self.change.words.name

    def encode(self, images: Tensor) -> Tensor:
        """The images themselves."""
        return images

    def zero(self, points: Tensor) -> Tensor:
        """The pattern of zeros."""
        return points.new_zeros((1, *self.change.pattern_shape(tuple(points.shape[1:]))))

    def log_posterior(self, encoded: Tensor, pattern: Tensor) -> Tensor:
        """Log p(c|x') of the changed images x', [P, N, K]."""
        return _log_posterior(self.classifier, self.change.changed(encoded, pattern))

    def project(self, pattern: Tensor, encoded: Tensor) -> Tensor:
        """Every pattern is allowed."""
        del encoded
        return pattern

    def within(self, pattern: Tensor, points: Tensor) -> Tensor:
        """The patterns without what the range of pixels takes from them."""
        return self.change.within(pattern, points)


@dataclass(frozen=True, slots=True)
class BoxedImage:
    """Added patterns, kept so small at each pixel that no source image ever leaves [0, 1] (XMK section 3.2)."""

    classifier: TorchClassifier
    """Differentiable copy of the model."""
    name: str = "image"

    def encode(self, images: Tensor) -> Tensor:
        """The images themselves."""
        return images

    def zero(self, points: Tensor) -> Tensor:
        """The pattern of zeros."""
        return points.new_zeros((1, *points.shape[1:]))

    def log_posterior(self, encoded: Tensor, pattern: Tensor) -> Tensor:
        """Log p(c|x + v), [P, N, K]."""
        return _log_posterior(self.classifier, encoded + pattern.unsqueeze(1))

    def project(self, pattern: Tensor, encoded: Tensor) -> Tensor:
        """The pattern cut off where the darkest or brightest source image would leave [0, 1]."""
        return pattern.maximum(-encoded.amin(dim=1)).minimum(1.0 - encoded.amax(dim=1))

    def within(self, pattern: Tensor, points: Tensor) -> Tensor:
        """The patterns cut off where their image would leave [0, 1]."""
        return Additive().within(pattern, points)


def _log_posterior(classifier: TorchClassifier, images: Tensor) -> Tensor:
    """The classifier over the leading pair axis: [P, N, C, H, W] -> [P, N, K]."""
    return classifier.log_posterior(images.flatten(0, 1)).reshape(*images.shape[:2], -1)
