"""Patterns on features inside the model, equation (10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.converters.cuts.split import Split


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

    def zero(self, points: Tensor) -> Tensor:
        """The pattern of zeros."""
        return points.new_zeros((1, *points.shape[1:]))

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
