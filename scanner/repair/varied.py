"""Clean images varied, so that few stand for the many that a model will see.

What they are decided as is asked of the untouched copy, so a variation need not keep what an image shows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_SHIFT = 1 / 12
"""Most that images are shifted, as a share of the shorter side."""
_MOST_MIXED = 0.5
"""Most of an image that another one takes."""


def turned(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images [N, C, H, W], half of them mirrored, all shifted by the same few pixels."""
    mirrored = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    height, width = images.shape[2:]
    most = int(_SHIFT * min(height, width))
    padded = F.pad(images, [most] * 4, mode="reflect")
    top, left = (int(torch.randint(2 * most + 1, (), generator=generator)) for _ in range(2))
    return padded[:, :, top : top + height, left : left + width]


def mixed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images [N, C, H, W], each mixed with another of them in a random part of up to a half (mixup)."""
    parts = _MOST_MIXED * torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device)
    others = images[torch.randperm(len(images), generator=generator).to(images.device)]
    return images * (1 - parts) + others * parts
