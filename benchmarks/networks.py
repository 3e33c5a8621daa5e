"""Network structures of the victims. All take images in [0, 1]; normalisation, if any, is inside."""

import torch
from torch import nn


def digit_net(shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Two convolutions and a linear layer: about 10,000 weights at 8 x 8 pixels and 10 classes."""
    channels, height, width = shape
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // 2) * (width // 2), num_classes),
    )


def initialise(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """Draw the weights of all convolutions and linear layers anew (He et al. 2015), biases zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
