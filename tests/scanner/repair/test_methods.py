"""What repairs learn with: patterns that move towards their targets, and channels that clean images leave alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from backscan.converters.errors import ConverterError
from backscan.converters.intake.artifact import artifact_from_bytes
from backscan.converters.signature.signature import pixel_normalisation, read_signature
from backscan.converters.torch_import.trainable import import_trainable
from backscan.scanner.repair.lesson import Lesson
from backscan.scanner.repair.pool import Pool
from backscan.scanner.repair.pruning import fine_prune
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
    pool = Pool(lesson, lesson.generator())
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


def test_fine_pruning_takes_the_channel_that_clean_images_leave_alone() -> None:
    lesson = lesson_of(with_dead_channel())
    weights = fine_prune(lesson)
    assert weights.keys() == lesson.copy.weights.keys()
    assert weights["gain"][DEAD] == weights["shift"][DEAD] == 0
    assert (weights["gain"] != 0).sum() >= 1
    assert not torch.equal(weights["matrix"], lesson.copy.weights["matrix"])  # tuned afterwards
    with pytest.raises(ConverterError, match="expected convolutions"):
        fine_prune(lesson_of(linear_softmax()))
