"""Where the pattern acts: the clipped image, equation (2); the boxed image; later features, equation (10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.converters import TorchClassifier
    from backscan.converters.cuts.split import Split


class Space(Protocol):
    """What the search needs to know about the place of the pattern."""

    @property
    def name(self) -> str:
        """`image`, or the tensor the pattern is added to."""

    def encode(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [0, 1] as points of the space, [N, ...]."""

    def log_posterior(self, encoded: Tensor, pattern: Tensor) -> Tensor:
        """Log p(c|x) of encoded images [P, N, ...] with patterns [P, ...]: [P, N, K], differentiable in `pattern`."""

    def project(self, pattern: Tensor, encoded: Tensor) -> Tensor:
        """The allowed pattern nearest to `pattern` [P, ...]."""

    def within(self, pattern: Tensor, points: Tensor) -> Tensor:
        """What patterns [P, ...] really change of one point each, [P, ...]: no pixel leaves its range."""


@dataclass(frozen=True, slots=True)
class ClippedImage:
    """Patterns are added to the image and the sum is clipped to [0, 1], equation (2)."""

    classifier: TorchClassifier
    """Differentiable copy of the model."""
    name: str = "image"

    def encode(self, images: Tensor) -> Tensor:
        """The images themselves."""
        return images

    def log_posterior(self, encoded: Tensor, pattern: Tensor) -> Tensor:
        """Log p(c|[x + v]_c), [P, N, K]."""
        return _log_posterior(self.classifier, torch.clamp(encoded + pattern.unsqueeze(1), 0.0, 1.0))

    def project(self, pattern: Tensor, encoded: Tensor) -> Tensor:
        """Every pattern is allowed."""
        del encoded
        return pattern

    def within(self, pattern: Tensor, points: Tensor) -> Tensor:
        """The patterns cut off where their image would leave [0, 1]."""
        return _inside(pattern, points)


@dataclass(frozen=True, slots=True)
class BoxedImage:
    """Patterns are kept so small at each pixel that no source image ever leaves [0, 1] (XMK section 3.2)."""

    classifier: TorchClassifier
    """Differentiable copy of the model."""
    name: str = "image"

    def encode(self, images: Tensor) -> Tensor:
        """The images themselves."""
        return images

    def log_posterior(self, encoded: Tensor, pattern: Tensor) -> Tensor:
        """Log p(c|x + v), [P, N, K]."""
        return _log_posterior(self.classifier, encoded + pattern.unsqueeze(1))

    def project(self, pattern: Tensor, encoded: Tensor) -> Tensor:
        """The pattern cut off where the darkest or brightest source image would leave [0, 1]."""
        return torch.minimum(torch.maximum(pattern, -encoded.amin(dim=1)), 1.0 - encoded.amax(dim=1))

    def within(self, pattern: Tensor, points: Tensor) -> Tensor:
        """The patterns cut off where their image would leave [0, 1]."""
        return _inside(pattern, points)


@dataclass(frozen=True, slots=True)
class Features:
    """Patterns are added to the value at a cut of the model, f1(x) + v, equation (10)."""

    cut: Split
    """The model in two parts."""

    @property
    def name(self) -> str:
        """The tensor at the cut."""
        return self.cut.cut

    def encode(self, images: Tensor) -> Tensor:
        """Features f1(x): the part before the cut runs once per image, not once per step."""
        features: Tensor = self.cut.front(images)
        return features

    def log_posterior(self, encoded: Tensor, pattern: Tensor) -> Tensor:
        """Log p(c|f1(x) + v), [P, N, K]."""
        moved = (encoded + pattern.unsqueeze(1)).flatten(0, 1)
        return self.cut.back.log_posterior(moved).reshape(*encoded.shape[:2], -1)

    def project(self, pattern: Tensor, encoded: Tensor) -> Tensor:
        """Every pattern is allowed: features have no range."""
        del encoded
        return pattern

    def within(self, pattern: Tensor, points: Tensor) -> Tensor:
        """The patterns themselves."""
        del points
        return pattern


def _log_posterior(classifier: TorchClassifier, images: Tensor) -> Tensor:
    """The classifier over the leading pair axis: [P, N, C, H, W] -> [P, N, K]."""
    return classifier.log_posterior(images.flatten(0, 1)).reshape(*images.shape[:2], -1)


def _inside(pattern: Tensor, images: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(pattern, -images), 1.0 - images)
