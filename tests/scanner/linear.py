"""A classifier whose least patterns are known on paper: linear log-odds between two of three classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LinearClassifier:
    """Three classes; class 0 against class 1 is decided by `weights . x > threshold`, class 2 never wins.

    From class 0 to class 1 the least L2 pattern that moves an image is along `weights`, with length
    (threshold - weights . x) / |weights|, as long as no pixel is clipped.
    """

    weights: Tensor
    """[C, H, W]."""
    threshold: float
    """Where the decision changes."""
    sharpness: float = 1.0
    """Factor on all logits: the larger, the more the softmax saturates."""

    def log_posterior(self, images: Tensor) -> Tensor:
        """Log p(c|x), [N, 3]."""
        margin = (images.flatten(1) @ self.weights.flatten()) - self.threshold
        logits = torch.stack([torch.zeros_like(margin), margin, torch.full_like(margin, -1e3)], dim=1)
        return torch.log_softmax(self.sharpness * logits, dim=1)

    def least_sizes(self, images: Tensor) -> Tensor:
        """Least L2 size that moves each image [N, ...] to class 1."""
        margin = self.threshold - images.flatten(1) @ self.weights.flatten()
        return margin / self.weights.norm()
