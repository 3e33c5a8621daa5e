"""Train a network, the same way on every machine of one kind."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.datasets import LabelledImages
from benchmarks.networks import initialise


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to train: AdamW under a one-cycle learning rate (Smith 2018)."""

    epochs: int
    """Passes over the training set."""
    batch_size: int
    """Images a step."""
    learning_rate: float
    """Peak of the cycle."""
    weight_decay: float
    """Decoupled weight decay."""
    label_smoothing: float = 0.0
    """Share of each label's weight spread over all classes."""


def fit(network: nn.Module, train: LabelledImages, schedule: Schedule, *, seed: int) -> nn.Module:
    """Train from a fresh initialisation by cross-entropy.

    Args:
        network: Its weights are drawn anew, then trained in place.
        train: Training images, clean or poisoned.
        schedule: How to train.
        seed: Decides the initial weights and the order of the images.

    Returns:
        The network, in evaluation mode.
    """
    generator = torch.Generator().manual_seed(seed)
    initialise(network, generator).train()
    images, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
    steps_per_epoch = -(-len(images) // schedule.batch_size)
    optimiser = torch.optim.AdamW(network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, schedule.learning_rate, total_steps=schedule.epochs * steps_per_epoch
    )
    for _ in range(schedule.epochs):
        for batch in torch.randperm(len(images), generator=generator).split(schedule.batch_size):
            optimiser.zero_grad()
            logits = network(images[batch])
            F.cross_entropy(logits, labels[batch], label_smoothing=schedule.label_smoothing).backward()
            optimiser.step()
            cycle.step()
    return network.eval()
