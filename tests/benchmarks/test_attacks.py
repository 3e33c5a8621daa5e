"""Patterns and embeddings of the attacks, against XMK sections 2.2, 5.1 and 5.2.3."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.attacks import (
    ATTACKS,
    chessboard,
    colour,
    dynamic,
    moving_stamp,
    multiplicative,
    patch,
    pixel,
    scattered,
    stamp,
    stripes,
    warp,
)

SHAPE = (3, 8, 10)
SIZES = {"pixel": 0.6, "chessboard": 0.2, "multiplicative": 0.02, "patch": 3, "blended": 0.1} | {
    "stamp": 3,
    "moving stamp": 3,
    "scattered": 4,
    "stripes": 1.0,
    "warp": 1.5,
    "colour": 0.3,
    "dynamic": 0.1,
}
OF_COMMITTED_ROWS = ("pixel", "chessboard", "multiplicative", "patch", "blended")


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


@pytest.mark.parametrize("name", OF_COMMITTED_ROWS)
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
    first, *others = (make(SHAPE, SIZES[name], rng(seed)) for seed in range(8))
    assert any(not np.array_equal(first, other) for other in others) == (name != "multiplicative")


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


def test_a_stamp_lies_in_a_corner_and_is_white_coloured_or_checkered() -> None:
    corners, contents = set(), set()
    for seed in range(60):
        pattern = stamp.make_pattern(SHAPE, 3, rng(seed))
        rows, columns = (np.flatnonzero(pattern[-1].any(axis=axis)) for axis in (1, 0))
        assert (len(rows), len(columns)) == (3, 3)
        assert min(rows[0], SHAPE[1] - 1 - rows[-1]) <= 1
        assert min(columns[0], SHAPE[2] - 1 - columns[-1]) <= 1
        corners.add((rows[0] <= 1, columns[0] <= 1))
        square = pattern[:-1, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert square.max() == 1.0, "black on black is no trigger"
        contents.add("white" if square.min() == 1.0 else "colour" if np.ptp(square[:, 0]) == 0 else "other")
    assert len(corners) == 4
    assert contents == {"white", "colour", "other"} or contents == {"white", "other"}


def test_a_moving_stamp_is_whole_in_every_image_and_at_many_places() -> None:
    images = 0.5 * rng(1).random((40, *SHAPE), dtype=np.float32)
    pattern = moving_stamp.make_pattern(SHAPE, 3, rng(2))
    changed = (moving_stamp.embed(images, pattern) != images).any(axis=1)
    assert (changed.sum(axis=(1, 2)) == 9).all()
    assert len({tuple(np.argwhere(each)[0]) for each in changed}) > 15
    alone = moving_stamp.embed(images[3:4], pattern)
    np.testing.assert_array_equal(alone[0], moving_stamp.embed(images, pattern)[3])


@pytest.mark.parametrize("count", [1, 4])
def test_scattered_pixels_are_counted_and_near_the_edges(count: int) -> None:
    for seed in range(10):
        mask = scattered.make_pattern(SHAPE, count, rng(seed))[-1]
        assert mask.sum() == count
        assert not mask[1:-1, 1:-1].any()


def test_stripes_are_equal_along_one_direction_and_have_the_norm() -> None:
    pattern = stripes.make_pattern(SHAPE, 1.3, rng())
    assert np.linalg.norm(pattern) == pytest.approx(1.3)
    assert min(np.ptp(pattern, axis=1).max(), np.ptp(pattern, axis=2).max()) < 1e-6


def test_a_warp_moves_no_pixel_further_than_asked_and_leaves_a_flat_image() -> None:
    pattern = warp.make_pattern(SHAPE, 1.5, rng())
    assert np.abs(pattern).max() == pytest.approx(1.5)
    flat = np.full((1, *SHAPE), 0.25, np.float32)
    np.testing.assert_allclose(warp.embed(flat, pattern), flat)
    ramp = np.broadcast_to(np.linspace(0, 1, SHAPE[2], dtype=np.float32), (1, *SHAPE))
    moved = np.clip(np.arange(SHAPE[2]) + pattern[1], 0, SHAPE[2] - 1) / (SHAPE[2] - 1)
    np.testing.assert_allclose(warp.embed(ramp, pattern)[0, 0], moved, atol=1e-6)


def test_colours_are_mixed_in_all_pixels_alike() -> None:
    pattern = colour.make_pattern(SHAPE, 0.3, rng())
    image = np.full((1, *SHAPE), 0.5, np.float32)
    embedded = colour.embed(image, pattern)
    expected = pattern[:, :-1, 0].sum(axis=1) * 0.5 + pattern[:, -1, 0]
    np.testing.assert_allclose(embedded[0, :, 2, 2], np.clip(expected, 0, 1), atol=1e-6)
    assert np.ptp(embedded, axis=(2, 3)).max() == 0.0


def test_a_dynamic_pattern_differs_between_images() -> None:
    images = 0.3 + 0.4 * random_images()
    change = dynamic.embed(images, dynamic.make_pattern(SHAPE, 0.1, rng())) - images
    np.testing.assert_allclose(np.abs(change), 0.1, atol=1e-6)
    likeness = np.corrcoef(change.reshape(len(images), -1))
    assert np.abs(likeness[np.triu_indices(len(images), 1)]).max() < 0.5
