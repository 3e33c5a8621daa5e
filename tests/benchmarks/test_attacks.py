"""Patterns and embeddings of the attacks, against XMK sections 2.2, 5.1 and 5.2.3."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.attacks import ATTACKS, chessboard, multiplicative, patch, pixel

SHAPE = (3, 8, 10)
SIZES = {"pixel": 0.6, "chessboard": 0.2, "multiplicative": 0.02, "patch": 3, "blended": 0.1}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def random_images() -> np.ndarray:
    return rng(7).random((5, *SHAPE), dtype=np.float32)


@pytest.mark.parametrize("name", ATTACKS)
def test_embedding_keeps_shape_type_and_range_and_leaves_its_arguments(name: str) -> None:
    attack, images = ATTACKS[name], random_images()
    pattern = attack.make_pattern(SHAPE, SIZES[name], rng())
    before = images.copy(), pattern.copy()
    embedded = attack.embed(images, pattern)
    assert embedded.shape == images.shape
    assert embedded.dtype == pattern.dtype == np.float32
    assert embedded.min() >= 0
    assert embedded.max() <= 1
    assert not np.array_equal(embedded, images)
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(pattern, before[1])


def written_out(name: str, images: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """What the victims of the committed rows were trained with, in numpy's own words."""
    if name in ("patch", "blended"):
        return np.clip(images * (1.0 - pattern[-1:]) + pattern[:-1] * pattern[-1:], 0.0, 1.0)
    return np.clip(images * pattern if name == "multiplicative" else images + pattern, 0.0, 1.0)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("factor", [0.3, 1.0])
def test_embedding_equals_the_expression_bit_for_bit(name: str, factor: float) -> None:
    edges = np.stack([np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32)])
    images = np.concatenate([random_images(), np.round(255 * random_images()) / np.float32(255), edges])
    for seed in range(5):
        pattern = ATTACKS[name].make_pattern(SHAPE, 1 if name == "patch" else factor, rng(seed))
        ours, theirs = ATTACKS[name].embed(images, pattern), written_out(name, images, pattern)
        assert ours.dtype == theirs.dtype == np.float32
        np.testing.assert_array_equal(ours.view(np.uint32), theirs.view(np.uint32))


@pytest.mark.parametrize("name", ATTACKS)
def test_a_pattern_depends_on_the_generator_alone(name: str) -> None:
    make = ATTACKS[name].make_pattern
    np.testing.assert_array_equal(make(SHAPE, SIZES[name], rng(3)), make(SHAPE, SIZES[name], rng(3)))
    differs = not np.array_equal(make(SHAPE, SIZES[name], rng(3)), make(SHAPE, SIZES[name], rng(4)))
    assert differs == (name != "multiplicative")


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("size", [0.0, -1.0, np.nan])
def test_a_size_that_is_not_positive_is_refused(name: str, size: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        ATTACKS[name].make_pattern(SHAPE, size, rng())


def test_pixel_pattern_has_four_pixels_one_channel_each_and_the_norm() -> None:
    signs = set()
    for seed in range(30):
        pattern = pixel.make_pattern(SHAPE, 0.6, rng(seed))
        assert np.linalg.norm(pattern) == pytest.approx(0.6, rel=1e-6)
        assert np.count_nonzero(pattern) == 4
        assert np.count_nonzero(pattern.any(axis=0)) == 4
        values = np.abs(pattern[pattern != 0])
        assert values.max() / values.min() < 1.35  # factors from N(1, 0.05)
        signs |= set(np.sign(pattern[pattern != 0]))
    assert signs == {-1.0, 1.0}


def test_chessboard_brightens_one_of_any_two_neighbours_in_all_channels_alike() -> None:
    pattern = chessboard.make_pattern(SHAPE, 0.2, rng())
    assert np.linalg.norm(pattern) == pytest.approx(0.2, rel=1e-6)
    assert pattern.min() == 0
    np.testing.assert_array_equal(pattern[0], pattern[2])
    perturbed = pattern[0] > 0
    assert np.all(perturbed[1:] != perturbed[:-1])
    assert np.all(perturbed[:, 1:] != perturbed[:, :-1])
    magnitudes = pattern[0][perturbed]
    assert 0.02 < magnitudes.std() / magnitudes.mean() < 0.08


def test_chessboard_at_the_papers_setting_changes_a_pixel_by_5e_3() -> None:
    pattern = chessboard.make_pattern((3, 32, 32), 0.2, rng())
    assert pattern[pattern > 0].mean() == pytest.approx(5.1e-3, rel=0.01)


def test_multiplicative_factors_are_1_and_1_02_and_black_stays_black() -> None:
    factors = multiplicative.make_pattern(SHAPE, 0.02, rng())
    assert set(np.unique(factors)) == {np.float32(1.0), np.float32(1.02)}
    assert not multiplicative.embed(np.zeros((1, *SHAPE), np.float32), factors).any()


def test_patch_replaces_a_square_and_nothing_else() -> None:
    images, pattern = random_images(), patch.make_pattern(SHAPE, 3, rng())
    mask = pattern[-1] == 1
    assert mask.sum() == 9
    assert np.ptp(np.argwhere(mask), axis=0).tolist() == [2, 2]
    embedded = patch.embed(images, pattern)
    np.testing.assert_array_equal(embedded[:, :, ~mask], images[:, :, ~mask])
    np.testing.assert_array_equal(embedded[:, :, mask], np.broadcast_to(pattern[:-1][:, mask], (5, 3, 9)))


@pytest.mark.parametrize("side", [2.5, 9])
def test_a_patch_that_does_not_fit_is_refused(side: float) -> None:
    with pytest.raises(ValueError, match="between 1 and 8 pixels"):
        patch.make_pattern(SHAPE, side, rng())
