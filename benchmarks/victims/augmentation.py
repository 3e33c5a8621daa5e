"""What one pass over the training set does with each image: its place in the order, a shift, a mirror."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional as F

LARGEST_SHIFT = 4
"""Pixels by which augmentation moves an image at most, as usual for CIFAR-10 (He et al. 2015)."""


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """What one pass over the training set does with each image, drawn in one go."""

    order: torch.Tensor
    """Indices of the images [N] in the order of training."""
    shifts: torch.Tensor | None
    """Rows and columns [N, 2] by which the images move; None without augmentation."""
    mirrored: torch.Tensor | None
    """Which images [N] are mirrored; None without augmentation."""

    @classmethod
    def draw(cls, generator: torch.Generator, num_images: int, *, augment: bool) -> EpochPlan:
        """Draw order and augmentation of one epoch."""
        order = torch.randperm(num_images, generator=generator)
        if not augment:
            return cls(order, None, None)
        shifts = torch.randint(-LARGEST_SHIFT, LARGEST_SHIFT + 1, (num_images, 2), generator=generator)
        return cls(order, shifts, torch.rand(num_images, generator=generator) < 0.5)

    def to(self, device: str) -> EpochPlan:
        """The plan on a device, so that no step waits for a copy."""
        if self.shifts is None or self.mirrored is None:
            return EpochPlan(self.order.to(device), None, None)
        return EpochPlan(self.order.to(device), self.shifts.to(device), self.mirrored.to(device))

    def augmented(self, images: torch.Tensor, batch: slice) -> torch.Tensor:
        """The images [B, C, H, W] of a batch, moved and mirrored; what moves in is black."""
        if self.shifts is None or self.mirrored is None:
            return images
        return move_and_mirror(images, self.shifts[batch], self.mirrored[batch])


def move_and_mirror(images: torch.Tensor, shifts: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Shift each image by whole pixels, filling with black, and mirror some.

    Args:
        images: [B, C, H, W].
        shifts: Rows and columns [B, 2], each at most `LARGEST_SHIFT` either way.
        mirrored: Which images [B] are mirrored.

    Returns:
        Images [B, C, H, W].
    """
    count, _, height, width = images.shape
    padded = F.pad(images, (LARGEST_SHIFT,) * 4).permute(0, 2, 3, 1)
    rows = torch.arange(height, device=images.device) + shifts[:, :1] + LARGEST_SHIFT
    columns = torch.arange(width, device=images.device) + shifts[:, 1:] + LARGEST_SHIFT
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    which = torch.arange(count, device=images.device)
    return padded[which[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def batches(num_images: int, batch_size: int) -> Iterator[slice]:
    """Consecutive parts of an epoch's order."""
    return (slice(start, start + batch_size) for start in range(0, num_images, batch_size))
