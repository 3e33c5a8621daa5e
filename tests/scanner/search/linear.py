"""A classifier whose least patterns are known on paper: linear log-odds between two of three classes.

With it the images that it is tried on, and the settings of a search of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from backscan.scanner.search.norms import NORMS
from backscan.scanner.search.objectives import OBJECTIVES
from backscan.scanner.search.settings import SearchSettings
from backscan.scanner.search.spaces import ClippedImage
from backscan.scanner.search.steps import STEP_RULES

SHAPE = (1, 4, 4)
GOAL = 0.8


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


def linear_classifier() -> LinearClassifier:
    """One whose boundary lies beyond middle grey."""
    weights = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    return LinearClassifier(weights, threshold=0.5 * float(weights.sum()) + 0.6 * float(weights.norm()))


def grey_images(num_images: int) -> Tensor:
    """Images [N, 1, 4, 4] around the middle grey, so that no pattern of these tests meets black or white."""
    return 0.5 + 0.05 * torch.randn(num_images, *SHAPE, generator=torch.Generator().manual_seed(0))


def least_common_size(classifier: LinearClassifier, images: Tensor, goal_rate: float = GOAL) -> float:
    """Every image needs the same direction, so the goal rate needs the size of its quantile."""
    return float(classifier.least_sizes(images).sort().values[math.ceil(goal_rate * len(images)) - 1])


def settings_of(classifier: LinearClassifier, **changes: object) -> SearchSettings:
    """Algorithm 1 on the classifier, with unit steps on the cross-entropy."""
    settings = SearchSettings(
        space=ClippedImage(classifier),
        objective=OBJECTIVES["ce"],
        rule=STEP_RULES["unit"],
        norm=NORMS["l2"],
        step_size=0.05,
        goal_rate=GOAL,
        max_size=3.0,
        max_steps=200,
        lanes=2,
        group_size=100,
        seed=0,
    )
    return replace(settings, **changes)
