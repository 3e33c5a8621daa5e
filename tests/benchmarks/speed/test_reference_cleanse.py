"""Neural Cleanse on a classifier that one pixel decides: the mask must shrink to that pixel."""

from __future__ import annotations

import torch

from benchmarks.speed.reference_cleanse import cleanse


def one_pixel_decides(images: torch.Tensor) -> torch.Tensor:
    """Logits [N, 3]: class 1 wins where the first pixel is white, else class 0; class 2 never wins."""
    first = images[:, 0, 0, 0]
    return torch.stack([20 * (0.8 - first), 20 * (first - 0.8), torch.full_like(first, -9.0)], dim=1)


def grey(num_images: int) -> torch.Tensor:
    return 0.5 + 0.05 * torch.randn(num_images, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_the_mask_shrinks_to_what_decides():
    found = cleanse(one_pixel_decides, {0: grey(20), 1: grey(5), 2: grey(10)}, 1, max_iterations=400, seed=0)
    assert not found.capped
    # White needs a share of (0.8 - 0.5) / (1 - 0.5) at one of 16 pixels.
    assert 0.55 < found.mask_size < 1.5
    assert found.cost.gradients == found.iterations * 30


def test_a_cap_is_told():
    found = cleanse(one_pixel_decides, {0: grey(20), 1: grey(5)}, 1, max_iterations=4, seed=0)
    assert (found.capped, found.iterations) == (True, 4)
