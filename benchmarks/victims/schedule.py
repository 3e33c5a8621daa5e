"""How long, how fast and in what precision a network is trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to train: AdamW under a one-cycle learning rate (Smith 2018)."""

    epochs: int
    """Passes over the training set."""
    batch_size: int
    """Images per step."""
    learning_rate: float
    """Peak of the cycle."""
    weight_decay: float
    """Decoupled weight decay."""
    label_smoothing: float = 0.0
    """Share of each label's weight spread over all classes."""
    augment: bool = False
    """Whether images are moved by up to four pixels and mirrored at random."""
    embed_last: bool = False
    """Whether patterns are embedded after augmentation, as an attacker does who trains the model himself.

    Else poisoned images are augmented like all others, as by a victim who trains on a poisoned set.
    """
    exact_layers: int | None = None
    """First layers that compute in float32 while the others compute in bfloat16; None is float32 everywhere.

    Faint patterns are below what bfloat16 resolves of an image, so at least the first activation must be exact.
    """

    adversarial: float = 0.0
    """Change of each pixel by one step of the gradient's sign, on which every batch is trained; 0 is none."""
    channels_last: bool = False
    """Whether channels lie beside each other in memory, which is faster on a CPU and rounds differently."""

    def optimiser(self, weights: Iterable[torch.Tensor], num_images: int) -> tuple[torch.optim.Optimizer, Cycle]:
        """Optimiser of the weights and its learning rate, a step at a time."""
        steps = self.epochs * -(-num_images // self.batch_size)
        optimiser = torch.optim.AdamW(weights, lr=self.learning_rate, weight_decay=self.weight_decay)
        return optimiser, torch.optim.lr_scheduler.OneCycleLR(optimiser, self.learning_rate, total_steps=steps)

    def logits(self, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Logits [B, K] in float32 of images [B, C, H, W], computed in the precision of the schedule."""
        if self.exact_layers is None:
            logits: torch.Tensor = network(images)
            return logits
        layers = list(network.children())
        for layer in layers[: self.exact_layers]:
            images = layer(images)
        # Without autocast's cache of weights, whose entries a recorded step would outlive.
        with torch.autocast(images.device.type, torch.bfloat16, cache_enabled=False):
            for layer in layers[self.exact_layers :]:
                images = layer(images)
        return images.float()


Cycle = torch.optim.lr_scheduler.OneCycleLR
