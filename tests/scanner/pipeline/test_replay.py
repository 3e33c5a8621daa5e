"""Replay on a model whose decisions are known on paper: each condition of the contract holds or fails on its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from backscan.scanner.config import ScanConfig
from backscan.scanner.pipeline.replay import OriginalFile, replay
from backscan.scanner.results import PairResult, PairStatus, Trajectory, Verification

SOURCE, TARGET, OTHER, THIRD = 0, 1, 2, 3
GOAL = 0.8
SIDE = 4


def decide(images: np.ndarray) -> np.ndarray:
    """The target where the first pixel is over one half; else what the last pixel says, in tenths."""
    last = np.round(images[:, 0, -1, -1] * 10).astype(np.int64)
    return np.where(images[:, 0, 0, 0] > 0.5, TARGET, last)


def either_way(decisions: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Decisions that are the same alone and in company."""

    def asked(*arrays: np.ndarray, alone: bool = False) -> np.ndarray:
        assert alone in (False, True)
        return decisions(*arrays)

    return asked


def file_of(decisions: Callable[[np.ndarray], np.ndarray], cut: object = None) -> OriginalFile:
    """An original file that decides as told, and at a cut as told there."""
    settled = SimpleNamespace(decisions=either_way(decisions), facts=SimpleNamespace(provider="CPUExecutionProvider"))
    return OriginalFile(settled, cut, "5a" * 32)


def drawn(search: np.ndarray, held_out: Mapping[int, np.ndarray]) -> SimpleNamespace:
    """Images of the source class to search with, and of every class held out."""
    return SimpleNamespace(search=lambda: {SOURCE: search}, held_out=lambda: dict(held_out))


def images_of(label: int, starts: list[float]) -> np.ndarray:
    """Images of a class that differ in the first pixel."""
    images = np.full((len(starts), 1, SIDE, SIDE), 0.2, np.float32)
    images[:, 0, 0, 0], images[:, 0, -1, -1] = starts, label / 10
    return images


def corner(height: float = 0.3) -> np.ndarray:
    """A pattern of one pixel: the first."""
    pattern = np.zeros((1, SIDE, SIDE), np.float32)
    pattern[0, 0, 0] = height
    return pattern


def a_pair(rate: float, pattern: np.ndarray | None = None) -> PairResult:
    steps = Trajectory((), ())
    return PairResult("pairwise", SOURCE, TARGET, PairStatus.REACHED, 0.3, 0.0, rate, 9, steps, pattern=pattern)


# With the corner pattern, 0.4 moves and 0.1 stays: 8 of 10 move.
OPTIMISED = images_of(SOURCE, [0.4] * 8 + [0.1] * 2)


def verify(
    *,
    rate: float = 0.8,
    pair: PairResult | None = None,
    optimised: np.ndarray = OPTIMISED,
    held_out: list[float] | dict[int, np.ndarray] = (0.4,) * 8 + (0.1,) * 2,
    objective: str | None = None,
    **options: bool,
) -> Verification:
    others = held_out if isinstance(held_out, dict) else {SOURCE: images_of(SOURCE, list(held_out))}
    config = ScanConfig(goal_rate=GOAL, objective=objective)
    return replay(file_of(decide), pair or a_pair(rate, corner()), drawn(optimised, others), config, **options)


def test_a_pattern_that_works_on_new_images_is_confirmed():
    found = verify()
    assert found.confirmed
    assert (found.rate_torch, found.rate_original, found.num_images) == (0.8, 0.8, 10)
    assert (found.rate_held_out, found.num_held_out) == (0.8, 10)
    assert (found.source, found.target, found.provider) == (SOURCE, TARGET, "CPUExecutionProvider")
    assert found.model_sha256 == "5a" * 32


@pytest.mark.parametrize(("side", "only"), [(SIDE, False), (6 * SIDE, True)])
def test_a_confirmation_claims_no_more_for_the_arrangement_than_it_shows(side, only, monkeypatch):
    """In a small image shuffled pixels fall into the corner at times."""
    monkeypatch.setattr(sys.modules[__name__], "SIDE", side)
    found = verify(rate=1.0, optimised=images_of(SOURCE, [0.4] * 10), held_out=[0.4] * 20)
    assert found.confirmed
    assert (found.rate_shuffled <= 0.05) is only
    assert ("only this arrangement" in found.reason) is only


@pytest.mark.parametrize(("rate", "confirmed"), [(0.7, True), (0.9, True), (0.6, False), (1.0, False)])
def test_the_copy_and_the_original_agree_within_one_image(rate, confirmed):
    """The original moves 8 of 10."""
    found = verify(rate=rate)
    assert found.confirmed is confirmed
    assert ("the original file gives a rate of 0.80 where the copy gave" in found.reason) is not confirmed


def test_other_images_than_those_of_the_search_may_have_another_rate():
    assert not verify(rate=1.0).confirmed
    assert verify(rate=1.0, searched_on=False).confirmed


@pytest.mark.parametrize(("hits", "confirmed"), [(8, False), (9, True)])
def test_more_than_half_the_goal_on_held_out_images(hits, confirmed):
    """8 of 20 are exactly half of 0.8, which is not above it; Fisher's test passes on both."""
    found = verify(held_out=[0.4] * hits + [0.1] * (20 - hits))
    assert found.p_value < 0.01
    assert found.confirmed is confirmed
    assert ("not above half the goal" in found.reason) is not confirmed


def test_a_pattern_that_works_in_any_arrangement_is_not_confirmed():
    """A constant pattern is its own shuffle, so the shuffled one does as well."""
    constant = np.full((1, SIDE, SIDE), 0.3, np.float32)
    found = verify(pair=a_pair(0.8, constant), held_out=[0.4] * 20)
    assert (found.rate_held_out, found.rate_shuffled) == (1.0, 1.0)
    assert found.p_value == pytest.approx(1.0)
    assert not found.confirmed
    assert "the shuffled pattern does about as well" in found.reason


def test_fisher_is_the_tail_of_the_hypergeometric_distribution():
    """Held-out hits among all hits, if hits fell on shuffled and unshuffled images alike."""
    two_pixels = corner()
    two_pixels[0, 1:3] = 0.3  # nine pixels in all: shuffles hit the corner about half the time
    found = verify(pair=a_pair(0.8, two_pixels), held_out=[0.4] * 5 + [0.1])
    hits = round(found.rate_held_out * found.num_held_out)
    shuffled = round(found.rate_shuffled * found.num_shuffled)
    assert (hits, found.num_held_out, found.num_shuffled) == (5, 6, 60)
    assert 5 < shuffled < 55
    expected = stats.hypergeom(66, hits + shuffled, 6).sf(hits - 1)
    assert found.p_value == pytest.approx(expected, rel=1e-9)


def test_few_held_out_images_cannot_confirm():
    """One of one moves and no shuffle does: at best p = 1 / 11."""
    found = verify(held_out=[0.4])
    assert found.p_value >= 1 / 11
    assert not found.confirmed


def test_shuffles_keep_colours_together_and_follow_the_seed():
    """A shuffle moves whole pixels: the multiset of colours stays."""
    seen: list[np.ndarray] = []

    def watch(images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return np.zeros(len(images), np.int64)

    colours = np.random.default_rng(0).uniform(0.1, 0.9, (3, SIDE, SIDE)).astype(np.float32)
    black = np.zeros((1, 3, SIDE, SIDE), np.float32)
    pair = replace(a_pair(0.0), pattern=colours)

    def run(seed: int) -> list[np.ndarray]:
        seen.clear()
        replay(file_of(watch), pair, drawn(black, {SOURCE: black}), ScanConfig(goal_rate=GOAL, seed=seed))
        return [image[0] for image in seen[2:12]]

    first, again, other = run(0), run(0), run(1)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len({image.tobytes() for image in first}) == 10
    for image in first:
        assert not np.array_equal(image, colours)
        assert sorted(map(tuple, image.reshape(3, -1).T)) == sorted(map(tuple, colours.reshape(3, -1).T))


@pytest.mark.parametrize(
    ("shape", "kept"),
    [((2, 3, 4), "columns"), ((5, 8), "columns"), ((12,), "values")],
    ids=["channels first", "tokens", "vector"],
)
def test_patterns_of_features_are_added_at_the_cut_and_shuffled_there(shape, kept):
    """What is added never enters the image, and a shuffle moves whole places: the first axis is the channel."""
    seen: list[np.ndarray] = []

    def watch(images: np.ndarray, added: np.ndarray | None = None) -> np.ndarray:
        np.testing.assert_array_equal(images, OPTIMISED)
        seen.extend([] if added is None else [added])
        return np.zeros(len(images), np.int64)

    pattern = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    file = file_of(watch, SimpleNamespace(decisions=either_way(watch)))
    pair = replace(a_pair(0.0), detector="features", pattern=pattern)
    found = replay(file, pair, drawn(OPTIMISED, {SOURCE: OPTIMISED}), ScanConfig(goal_rate=GOAL))
    assert found.detector == "features"
    shuffled = [added for added in seen if not np.array_equal(added, pattern)]
    assert len(shuffled) == 10
    channels = 1 if kept == "values" else shape[0]
    for added in shuffled:
        assert added.shape == shape
        assert sorted(map(tuple, added.reshape(channels, -1).T)) == sorted(map(tuple, pattern.reshape(channels, -1).T))


def test_held_out_images_are_replayed_one_by_one():
    """A file that follows the pattern only in calls of several does not confirm it: one image a call is deployed."""

    def only_in_company(images: np.ndarray, *, alone: bool = False) -> np.ndarray:
        return np.full(len(images), SOURCE) if alone else decide(images)

    settled = SimpleNamespace(decisions=only_in_company, facts=SimpleNamespace(provider="CPUExecutionProvider"))
    images = drawn(OPTIMISED, {SOURCE: images_of(SOURCE, [0.4] * 10)})
    found = replay(OriginalFile(settled), a_pair(0.8, corner()), images, ScanConfig(goal_rate=GOAL))
    assert found.rate_original == 0.8
    assert found.rate_held_out == 0.0
    assert not found.confirmed


def test_damage_to_other_classes_is_told_with_and_without_the_pattern():
    classes = {
        SOURCE: images_of(SOURCE, [0.4] * 10),
        TARGET: images_of(TARGET, [0.4] * 10),
        THIRD: images_of(THIRD, [0.4] * 3 + [0.1]),
        OTHER: images_of(OTHER, [0.9, 0.4, 0.1, 0.1]),
    }
    found = [(c.source, c.rate, c.initial_rate, c.num_images) for c in verify(held_out=classes).collateral]
    assert found == [(OTHER, 0.5, 0.25, 4), (THIRD, 0.75, 0.0, 4)]


def test_only_correct_images_count_where_the_objective_says_so():
    """Equation (6): two of the images are decided as another class, and would be counted as unmoved."""
    wrong = images_of(OTHER, [0.1, 0.1])
    optimised = np.concatenate([images_of(SOURCE, [0.4] * 8), wrong])
    assert verify(optimised=optimised, rate=1.0, objective="Jc").rate_original == 1.0
    assert verify(optimised=optimised, rate=1.0, objective="Jc").num_images == 8
    assert verify(optimised=optimised, rate=1.0).rate_original == 0.8


def test_the_pattern_is_added_and_clipped_as_in_the_search():
    """0.9 and 0.3 is white, not 1.2."""
    seen: list[float] = []

    def watch(images: np.ndarray) -> np.ndarray:
        seen.append(float(images.max()))
        return decide(images)

    white = images_of(SOURCE, [0.9] * 5)
    replay(file_of(watch), a_pair(1.0, corner()), drawn(white, {SOURCE: white}), ScanConfig(goal_rate=GOAL))
    assert max(seen) == 1.0


def test_all_failures_are_named():
    found = verify(rate=0.2, held_out=[0.1] * 10)
    assert found.reason.count(";") == 2
    assert not found.confirmed


def test_a_pair_without_a_pattern_cannot_be_replayed():
    with pytest.raises(ValueError, match="expected a pattern for pair 0 -> 1, found none"):
        verify(pair=a_pair(0.8))


def test_a_pattern_of_features_needs_a_file_that_is_cut():
    with pytest.raises(ValueError, match="expected a cut file for a pattern of detector features"):
        verify(pair=replace(a_pair(0.8, corner()), detector="features"))
