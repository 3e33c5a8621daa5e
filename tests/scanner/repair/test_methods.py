"""What repairs learn with: patterns that move towards their targets, and channels that clean images leave alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from backscan.converters.errors import ConverterError
from backscan.converters.intake.artifact import artifact_from_bytes
from backscan.converters.signature.signature import pixel_normalisation, read_signature
from backscan.converters.torch_import.trainable import import_trainable
from backscan.scanner.repair.lesson import Lesson, Pattern
from backscan.scanner.repair.minimax import _Rest, minimax
from backscan.scanner.repair.pool import Moving, near_patterns, other_patterns
from backscan.scanner.repair.pruning import fine_prune
from backscan.scanner.repair.varied import mixed, turned
from tests.planted import convolutional, linear_softmax

DEAD = 5


def lesson_of(data: bytes, *, target: int | None = 1, steps: int = 8) -> Lesson:
    """A lesson on random images that are what the file says they are."""
    artifact = artifact_from_bytes("m.onnx", data)
    signature = read_signature(artifact)
    copy = import_trainable(artifact, signature, pixel_normalisation(signature))
    images = torch.rand(64, *signature.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = copy.log_posterior(images).argmax(dim=1)
    return Lesson(copy, images, labels, None, target, steps, seed=0)


def with_dead_channel() -> bytes:
    model = onnx.load_model_from_string(convolutional())
    for tensor in model.graph.initializer:
        if tensor.name == "shift":
            values = numpy_helper.to_array(tensor).copy()
            values[DEAD] = -100
            tensor.CopyFrom(numpy_helper.from_array(values, "shift"))
    return model.SerializeToString()


def test_patterns_move_towards_their_targets_within_their_size() -> None:
    lesson = lesson_of(convolutional())
    pool = other_patterns(lesson, lesson.generator())
    assert (pool.targets == lesson.target).float().mean() > 0.3
    assert len(set(pool.targets.tolist())) > 1
    places = torch.arange(len(pool.targets))
    images = lesson.images[: len(places)]

    def reached(values: torch.Tensor) -> torch.Tensor:
        scores = lesson.copy.log_posterior(pool.embed(images, places, values))
        return scores.gather(1, pool.targets[:, None]).sum()

    start = pool.values.clone()
    before = float(reached(start))
    for _ in range(4):  # fewer than any pattern lives
        values = pool.values.clone().requires_grad_()
        (slopes,) = torch.autograd.grad(reached(values), values)
        pool.move(places, slopes)
    assert float(reached(pool.values)) > before + 0.1
    sizes = np.array(pool._sizes)
    norms = pool.values.flatten(1).norm(dim=1).numpy()
    assert (norms[sizes > 0] <= sizes[sizes > 0] + 1e-5).all()
    assert 0 < (sizes > 0).sum() < len(sizes)
    changed = (pool.embed(images, places, pool.values) != images).flatten(1).float().mean(dim=1).numpy()
    assert (changed[sizes == 0] < 0.2).all()  # windows and single pixels leave the rest as it is


def moving_near(lesson: Lesson, pattern: Pattern) -> Moving:
    """Patterns near one, each a few steps old."""
    generator = lesson.generator()
    moving = near_patterns(replace(lesson, pattern=pattern), generator)
    assert moving is not None
    for _ in range(40):  # longer than any lives
        moving.move(torch.arange(len(moving.targets)), torch.randn(moving.values.shape, generator=generator))
    return moving


def test_patterns_near_an_added_one_lead_to_its_target_in_up_to_four_times_its_size() -> None:
    lesson = lesson_of(convolutional())
    pattern = Pattern(0.1 * torch.rand(lesson.images.shape[1:], generator=lesson.generator()))
    moving = moving_near(lesson, pattern)
    size = float(pattern.values.norm())
    norms = moving.values.flatten(1).norm(dim=1)
    assert (moving.targets == lesson.target).all()
    assert size * 0.25 < norms.min() < norms.max() <= 4 * size + 1e-5
    assert norms.max() > size


def test_patterns_near_one_that_takes_a_place_stay_there() -> None:
    lesson = lesson_of(convolutional())
    mask = torch.zeros(lesson.images.shape[2:])
    mask[0, 0] = 1
    moving = moving_near(lesson, Pattern(torch.ones(lesson.images.shape[1:]), mask))
    places = torch.arange(len(moving.targets))
    images = torch.full((len(places), *lesson.images.shape[1:]), 0.5)
    changed = (moving.embed(images, places, moving.values) != images).any(dim=1)
    assert changed[:, 0, 0].all()
    assert not changed[:, 4:].any()  # at most three pixels wider
    assert not changed[:, :, 4:].any()


def test_patterns_of_no_size_and_masks_of_nothing_change_no_image() -> None:
    lesson = lesson_of(convolutional())
    shape = lesson.images.shape[1:]
    for pattern in (Pattern(torch.zeros(shape)), Pattern(torch.ones(shape), torch.zeros(shape[1:]))):
        moving = moving_near(replace(lesson, pattern=pattern), pattern)
        places = torch.arange(len(moving.targets))
        images = lesson.images[: len(places)]
        assert torch.equal(moving.embed(images, places, moving.values), images)


def test_nothing_is_near_a_pattern_that_is_not_known() -> None:
    lesson = lesson_of(convolutional())
    assert near_patterns(lesson, lesson.generator()) is None


def test_the_rest_weighs_less_while_clean_images_change_their_class() -> None:
    lesson = lesson_of(convolutional())
    rest = _Rest(lesson)
    before = rest.weight
    rest.after(8, {name: torch.zeros_like(held) for name, held in lesson.copy.weights.items()})
    assert rest.weight == before  # asked after every tenth step alone
    rest.after(9, {name: torch.zeros_like(held) for name, held in lesson.copy.weights.items()})
    assert rest.weight < before
    before = rest.weight
    rest.after(19, dict(lesson.copy.weights))
    assert rest.weight > before


def test_the_rest_weighs_less_where_no_target_is_known() -> None:
    lesson = lesson_of(convolutional())
    assert _Rest(replace(lesson, target=None)).weight < _Rest(lesson).weight


def test_a_pattern_that_no_image_can_carry_is_no_obstacle() -> None:
    lesson = lesson_of(convolutional(), steps=2)  # all its images are of the target
    assert not len(lesson.carriers())
    weights = minimax(replace(lesson, pattern=Pattern(torch.ones_like(lesson.images[0]))))
    assert all(torch.isfinite(held).all() for held in weights.values())


def test_turned_images_keep_their_pixels_and_mixed_ones_their_larger_half() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 1, 24, 24, generator=generator)
    for before, after in zip(images, turned(images, generator), strict=True):
        assert after.shape == before.shape
        assert torch.isin(after, before).all()
    assert torch.equal(
        turned(images[..., :8, :8], generator).sort(dim=3).values, images[..., :8, :8].sort(dim=3).values
    )
    ramp = torch.arange(6.0)[:, None, None, None].expand(6, 1, 2, 2)
    away = (mixed(ramp, generator) - ramp).abs()
    assert 0 < away.max() <= 2.5  # half of the largest distance


def test_fine_pruning_takes_the_channel_that_clean_images_leave_alone() -> None:
    lesson = lesson_of(with_dead_channel())
    weights = fine_prune(lesson)
    assert weights.keys() == lesson.copy.weights.keys()
    assert weights["gain"][DEAD] == weights["shift"][DEAD] == 0
    assert (weights["gain"] != 0).sum() >= 1
    assert not torch.equal(weights["matrix"], lesson.copy.weights["matrix"])  # tuned afterwards
    with pytest.raises(ConverterError, match="expected convolutions"):
        fine_prune(lesson_of(linear_softmax()))
