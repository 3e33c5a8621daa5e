"""Embeddings equal torch's float32 bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backscan.kernels import embedding

RNG = np.random.default_rng(3)
IMAGES = RNG.random((6, 3, 8, 8)).astype(np.float32)
PATTERN = RNG.normal(0.0, 0.3, (3, 8, 8)).astype(np.float32)
MASK = RNG.random((8, 8)).astype(np.float32)


def equal_bits(ours, theirs):
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours.view(np.uint32), theirs.numpy().view(np.uint32))


def images():
    return torch.from_numpy(IMAGES.copy())


def test_add_equals_torch():
    equal_bits(embedding.add(IMAGES, PATTERN), torch.clamp(images() + torch.from_numpy(PATTERN), 0.0, 1.0))


def test_multiply_equals_torch():
    factor = 1.0 + PATTERN
    equal_bits(embedding.multiply(IMAGES, factor), torch.clamp(images() * torch.from_numpy(factor), 0.0, 1.0))


def test_patch_equals_torch():
    mask, pattern = torch.from_numpy(MASK), torch.from_numpy(np.abs(PATTERN))
    equal_bits(embedding.patch(IMAGES, np.abs(PATTERN), MASK), images() * (1.0 - mask) + pattern * mask)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (0.1, 0.7)])
def test_clip_equals_torch(bounds):
    values = np.array([-np.inf, -2.0, -0.0, 0.0, 1e-45, 0.1, 0.7, 1.0, 3.0, np.inf, np.nan], dtype=np.float32)
    ours, theirs = embedding.clip(values, bounds), torch.clamp(torch.from_numpy(values), *bounds)
    np.testing.assert_array_equal(ours, theirs.numpy())


def test_inputs_stay_as_they_were():
    before = IMAGES.copy(), PATTERN.copy()
    embedding.add(IMAGES, PATTERN)
    embedding.patch(IMAGES, np.abs(PATTERN), MASK)
    np.testing.assert_array_equal(IMAGES, before[0])
    np.testing.assert_array_equal(PATTERN, before[1])


def test_mask_of_zero_keeps_and_of_one_replaces():
    pattern = np.abs(PATTERN)
    np.testing.assert_array_equal(embedding.patch(IMAGES, pattern, np.zeros_like(MASK)), IMAGES)
    np.testing.assert_array_equal(embedding.patch(IMAGES, pattern, np.ones_like(MASK))[2], pattern)


def test_refuses_other_types_and_ranges():
    with pytest.raises(ValueError, match="expected pattern as float32, found float64"):
        embedding.add(IMAGES, PATTERN.astype(np.float64))
    with pytest.raises(ValueError, match="expected images as float32, found uint8"):
        embedding.clip((IMAGES * 255).astype(np.uint8))
    with pytest.raises(ValueError, match="in order"):
        embedding.clip(IMAGES, (1.0, 0.0))
    with pytest.raises(ValueError, match=r"mask in \[0, 1\]"):
        embedding.patch(IMAGES, PATTERN, MASK * 2.0)
