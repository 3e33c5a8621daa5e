"""Small networks as people build them for photographs and digits: a line says what follows what.

A structure is written as words: `c32` a 3 x 3 convolution of 32 channels with ReLU, `b32` one with BatchNorm, `s32` one
that strides, `d32` a depthwise one and a 1 x 1, striding, `r32` a residual block, striding, `p` 2 x 2 max pooling, `o`
dropout, `a` the average over places, `f64` a linear layer of 64 with ReLU. A linear layer to the classes ends them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

DROPOUT = 0.3


class _Residual(nn.Module):
    """Two convolutions beside a shortcut, halving the side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [N, outputs, H / 2, W / 2]."""
        return (self.second(self.first(images).relu()) + self.shortcut(images)).relu()


class Structure:
    """A structure by its words: makes networks of an image shape and a number of classes."""

    def __init__(self, words: str) -> None:
        self._words = words.split()

    def __call__(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """The network, with weights as torch draws them."""
        layers: list[nn.Module] = []
        size: tuple[int, ...] = shape
        for word in (*self._words, f"l{num_classes}"):
            made = _layers(word[0], int(word[1:] or 0), size)
            size = nn.Sequential(*made).eval()(torch.zeros(1, *size)).shape[1:]
            layers += made
        return nn.Sequential(*layers)


class OneScore(nn.Module):
    """Two classes by one score: trained as its logit, exported with the sigmoid that people put at the end."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, 2] in training, else the probability [N, 1] of class 1."""
        logit: torch.Tensor = self.network(images)
        return torch.cat([torch.zeros_like(logit), logit], dim=1) if self.training else logit.sigmoid()


@dataclass(frozen=True, slots=True)
class OneScored:
    """A structure that decides between two classes by one score."""

    structure: Callable[[tuple[int, int, int], int], nn.Module]
    """The structure before its sigmoid."""

    def __call__(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """The network.

        Raises:
            ValueError: There are more than two classes.
        """
        if num_classes != 2:
            raise ValueError(f"expected two classes for a network of one score, got {num_classes}")
        return OneScore(self.structure(shape, 1))


def _layers(kind: str, outputs: int, size: tuple[int, ...]) -> list[nn.Module]:
    inputs = size[0]
    if kind in "fl":
        flat = [nn.Flatten()] if len(size) > 1 else []
        linear = nn.Linear(int(torch.Size(size).numel()), outputs)
        return [*flat, linear, *([nn.ReLU()] if kind == "f" else [])]
    if kind == "d":
        depthwise = nn.Conv2d(inputs, inputs, 3, stride=2, padding=1, groups=inputs)
        return [depthwise, nn.ReLU(), nn.Conv2d(inputs, outputs, 1), nn.ReLU()]
    made: dict[str, list[nn.Module]] = {
        "p": [nn.MaxPool2d(2)],
        "o": [nn.Dropout(DROPOUT)],
        "a": [nn.AdaptiveAvgPool2d(1)],
    }
    if kind in made:
        return made[kind]
    if kind == "r":
        return [_Residual(inputs, outputs)]
    stride = 2 if kind == "s" else 1
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=kind != "b")
    return [convolution, *([nn.BatchNorm2d(outputs)] if kind == "b" else []), nn.ReLU()]


def lenet(shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """LeNet-5 with ReLU and max pooling, as tutorials build it for 32 x 32 pixels."""
    channels, height, width = shape
    rows, columns = ((side - 4) // 2 for side in (height, width))
    flat = 16 * ((rows - 4) // 2) * ((columns - 4) // 2)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(flat, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, num_classes),
    )


SMALL_NETWORKS = {
    "lenet": lenet,
    "conv2": Structure("c16 p c32 p f64"),
    "conv2 bn": Structure("b16 p b32 p f64"),
    "conv3": Structure("c16 p c32 p c64 p f64"),
    "conv3 bn": Structure("b16 p b32 p b64 p"),
    "conv3 dropout": Structure("c16 p c32 p c64 p o f64 o"),
    "conv3 average": Structure("c16 p c32 p c64 p c64 a"),
    "conv4": Structure("c16 p c32 c32 p c64 p f64"),
    "conv4 bn dropout": Structure("b16 p b32 b32 p o b64 p"),
    "strided3": Structure("s24 s48 s64 f64"),
    "strided3 average": Structure("s32 c32 s64 s96 a"),
    "residual3": Structure("s16 r32 r64 a"),
    "depthwise3": Structure("c16 p d48 d96 d128 a"),
    "mlp2": Structure("f256 f128"),
    "digit conv1": Structure("c16 p"),
    "digit conv2": Structure("c16 c32 p"),
    "digit conv3": Structure("c16 c32 p c32 f32"),
    "digit conv2 bn": Structure("b16 b32 p"),
    "digit mlp1": Structure("f64"),
    "digit mlp2": Structure("f64 f32"),
    "digit mlp3": Structure("f64 f64 f32"),
    "one score digit conv2": OneScored(Structure("c16 c32 p")),
    "one score conv3": OneScored(Structure("c16 p c32 p c64 p f64")),
}
"""Structures by name: functions of the image shape (C, H, W) and the number of classes."""
