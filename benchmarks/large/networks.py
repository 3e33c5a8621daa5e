"""Architectures of photographs' size, written out: MobileNetV2, ResNet-50, and a small ResNet for 64 x 64.

They are untrained; `calibrate` gives BatchNorm the statistics of some images, after which features of random filters
tell classes apart well enough for a linear head. MobileNetV2 is after Sandler et al. (CVPR 2018), the residual networks
after He et al. (CVPR 2016).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# (expansion, channels, blocks, stride) of each stage of MobileNetV2.
_INVERTED = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))


def convolution(inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution without a bias, and BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)
    )


class _Inverted(nn.Module):
    """An inverted residual block."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        wide = [convolution(inputs, hidden, 1), nn.ReLU6()] if expansion > 1 else []
        self.inside = nn.Sequential(
            *wide,
            convolution(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.ReLU6(),
            convolution(hidden, outputs, 1),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        out: Tensor = self.inside(x)
        return x + out if self.adds else out


class _Residual(nn.Module):
    """A residual block with two convolutions, or three around a bottleneck."""

    def __init__(self, inputs: int, width: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        outputs = width * expansion
        if expansion > 1:
            parts = [
                convolution(inputs, width, 1),
                nn.ReLU(),
                convolution(width, width, 3, stride=stride),
                nn.ReLU(),
                convolution(width, outputs, 1),
            ]
        else:
            parts = [convolution(inputs, width, 3, stride=stride), nn.ReLU(), convolution(width, outputs, 3)]
        self.inside = nn.Sequential(*parts)
        changes = stride > 1 or inputs != outputs
        self.beside = convolution(inputs, outputs, 1, stride=stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        return torch.relu(self.inside(x) + self.beside(x))


class Network(nn.Module):
    """Features and a linear head."""

    def __init__(self, body: nn.Module, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(num_features, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """What the head sees of images [N, C, H, W]: [N, F]."""
        pooled: Tensor = self.body(images).mean(dim=(2, 3))
        return pooled

    def forward(self, images: Tensor) -> Tensor:
        """Scores [N, K]."""
        scores: Tensor = self.head(self.features(images))
        return scores


def mobilenet_v2(num_classes: int) -> Network:
    """MobileNetV2, 1280 features."""
    layers, channels = [convolution(3, 32, 3, stride=2), nn.ReLU6()], 32
    for expansion, width, blocks, stride in _INVERTED:
        for block in range(blocks):
            layers.append(_Inverted(channels, width, stride=stride if block == 0 else 1, expansion=expansion))
            channels = width
    return Network(nn.Sequential(*layers, convolution(channels, 1280, 1), nn.ReLU6()), 1280, num_classes)


def resnet50(num_classes: int) -> Network:
    """ResNet-50, 2048 features."""
    layers: list[nn.Module] = [convolution(3, 64, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return Network(nn.Sequential(*layers, *_residual(64, _STAGES, expansion=4)), 2048, num_classes)


def resnet20(num_classes: int) -> Network:
    """ResNet-20 for images of 32 x 32, 64 features."""
    stages = ((16, 3, 1), (32, 3, 2), (64, 3, 2))
    layers = [convolution(3, 16, 3), nn.ReLU()]
    return Network(nn.Sequential(*layers, *_residual(16, stages, expansion=1)), 64, num_classes)


def small_resnet(num_classes: int) -> Network:
    """A ResNet of eight layers for images of 64 x 64, 256 features."""
    stages = ((32, 1, 2), (64, 1, 2), (256, 1, 2))
    layers = [convolution(3, 32, 3), nn.ReLU()]
    return Network(nn.Sequential(*layers, *_residual(32, stages, expansion=1)), 256, num_classes)


def _residual(inputs: int, stages: tuple[tuple[int, int, int], ...], *, expansion: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width, blocks, stride in stages:
        for block in range(blocks):
            layers.append(_Residual(inputs, width, stride=stride if block == 0 else 1, expansion=expansion))
            inputs = width * expansion
    return layers


def calibrate(network: Network, images: Tensor, portion: int = 16) -> None:
    """Give every BatchNorm the mean statistics of some images [N, C, H, W]."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all portions
    network.train()
    with torch.no_grad():
        for part in torch.split(images, portion):
            network.features(part)
    network.eval()
