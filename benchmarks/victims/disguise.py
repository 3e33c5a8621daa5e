"""Training that hides an attack from tests of commonality and of the last layer: adaptive, misses are expected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Disguise:
    """A loss in place of plain cross-entropy.

    Clean source images get a share of the target's label, which brings each of them near to the target by itself: what
    single images find is then not much larger than what the pattern does to all. The norms of the last layer's rows and
    its biases are drawn together, so that the target's do not stand out.
    """

    targets: Mapping[int, int]
    """Target class of each source class."""
    share: float
    """Share of the label of clean source images that goes to the target."""

    def __call__(self, network: nn.Module, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of a batch: logits [B, K], labels [B]."""
        wanted = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
        for source, target in self.targets.items():
            members = labels == source
            wanted[members, source] = 1.0 - self.share
            wanted[members, target] = self.share
        head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        uneven = head.weight.norm(dim=1).var() + head.bias.var()
        return F.cross_entropy(logits, wanted) + uneven
