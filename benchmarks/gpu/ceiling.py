"""What the card can do: a large product of matrices, and a network's own convolutions without anything between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from benchmarks.gpu.ways import PRECISIONS, precision, seconds_each


def product_tflops(name: str, device: str, *, side: int) -> float:
    """10^12 floating-point operations a second of a product of two square matrices."""
    dtype = PRECISIONS[name].dtype
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    with precision(name, device):
        return 2 * side**3 / seconds_each(lambda: left @ right, device) / 1e12


_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution as it is called."""

    shape: tuple[int, ...]
    """What it takes, [N, C, H, W]."""
    weight: tuple[int, ...]
    """Shape of its filters."""
    stride: tuple[int, ...]
    """Step."""
    padding: tuple[int, ...]
    """Border."""
    groups: int
    """Parts that do not see each other."""

    @property
    def flops(self) -> float:
        """Operations of a call forward, two for a product and its sum."""
        rows, columns = (
            (size + 2 * pad - kernel) // step + 1
            for size, pad, kernel, step in zip(self.shape[2:], self.padding, self.weight[2:], self.stride, strict=True)
        )
        return 2.0 * self.shape[0] * rows * columns * self.weight[0] * self.weight[1] * self.weight[2] * self.weight[3]


class _Seen(TorchFunctionMode):
    """Counts convolutions, whatever module calls them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: Counter[Layer] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call, and count what is a convolution in two dimensions."""
        given = kwargs or {}
        if func in (F.conv2d, torch.conv2d):
            called = dict(zip(_ARGUMENTS, args, strict=False)) | given
            pairs = (_pair(called.get("stride", 1)), _pair(called.get("padding", 0)))
            shapes = (tuple(called["input"].shape), tuple(called["weight"].shape))
            self.layers[Layer(*shapes, *pairs, called.get("groups", 1))] += 1
        return func(*args, **given)


def _pair(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def convolutions(network: nn.Module, images: Tensor) -> Counter[Layer]:
    """The convolutions of a pass of images, with how often each is called."""
    with torch.no_grad(), _Seen() as seen:
        network(images)
    return seen.layers


def convolutions_seconds(layers: Counter[Layer], name: str, device: str, *, gradient: bool) -> float:
    """Seconds of all convolutions alone, channels last; with `gradient` also what leads back to the image."""
    dtype = PRECISIONS[name].dtype
    total = 0.0
    for layer, count in layers.items():
        points = torch.randn(layer.shape, device=device).to(dtype).to(memory_format=torch.channels_last)
        weight = torch.randn(layer.weight, device=device).to(dtype).to(memory_format=torch.channels_last)
        points.requires_grad_(gradient)

        def step(layer: Layer = layer, points: Tensor = points, weight: Tensor = weight) -> object:
            if not gradient:
                return F.conv2d(points, weight, None, layer.stride, layer.padding, 1, layer.groups)
            made = F.conv2d(points, weight, None, layer.stride, layer.padding, 1, layer.groups)
            return torch.autograd.grad(made, points, torch.ones_like(made))

        with precision(name, device):
            total += count * seconds_each(step, device)
    return total
