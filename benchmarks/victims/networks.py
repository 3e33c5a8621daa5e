"""Network structures of the victims. All take images in [0, 1]; normalisation, if any, is inside."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from benchmarks.victims.small_networks import SMALL_NETWORKS


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


def small_net(shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Two strided convolutions and two linear layers, as in benchmarks of formal verification."""
    channels, height, width = shape
    return nn.Sequential(
        nn.Conv2d(channels, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * (height // 4) * (width // 4), 100),
        nn.ReLU(),
        nn.Linear(100, num_classes),
    )


def initialise(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """Draw the weights of all convolutions and linear layers anew (He et al. 2015), biases zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


class _Block(nn.Module):
    """Two convolutions beside a shortcut; where the shape changes, the shortcut drops pixels and adds zeros."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = outputs // inputs
        self.padding = (outputs - inputs) // 2
        self.first = nn.Conv2d(inputs, outputs, 3, stride=self.stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [N, outputs, H / stride, W / stride]."""
        shortcut = images[:, :, :: self.stride, :: self.stride]
        shortcut = nn.functional.pad(shortcut, (0, 0, 0, 0, self.padding, self.padding))
        hidden = self.first_norm(self.first(images)).relu()
        return (self.second_norm(self.second(hidden)) + shortcut).relu()


def resnet20(shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """ResNet-20 for CIFAR-10 (He et al. 2015, section 4.2, shortcut option A): XMK section 5.2."""
    widths = (16, 16, 16, 16, 32, 32, 32, 64, 64, 64)
    return nn.Sequential(
        nn.Conv2d(shape[0], 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *(_Block(inputs, outputs) for inputs, outputs in pairwise(widths)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )


NETWORKS = {"digit_net": digit_net, "small_net": small_net, "resnet20": resnet20, **SMALL_NETWORKS}
"""Structures by name: functions of the image shape (C, H, W) and the number of classes."""
