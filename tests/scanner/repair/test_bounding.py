"""A channel that only the pattern drives is held where clean images leave it, and clean decisions stay."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from backscan.converters.intake.artifact import artifact_from_bytes, parse
from backscan.converters.ort_classifier import open_runtime
from backscan.converters.signature.signature import pixel_normalisation, read_signature
from backscan.converters.torch_import.trainable import TrainableClassifier
from backscan.scanner.repair.lesson import Lesson, Pattern
from backscan.scanner.repair.mending import Mended, Patient, mended

Images = NDArray[np.float32]
CLASSES, SIDE, TARGET, DRIVEN = 3, 4, 2, 3
SLOPE, RISE, GATE = 8.0, 12.0, 0.5


def gated(layout: str) -> bytes:
    """Channel k of a 1x1 convolution is colour k, which is the score of class k; the last is relu(g - 1/2).

    The green of colour `DRIVEN` is at most 0.6 on clean images, so that the last channel is at most 0.1 there. The
    pattern makes it 1, and the last channel 1/2, which adds 1/2 * RISE to the score of the target. With the bound at
    the clean maximum that becomes 0.1 * RISE, less than SLOPE times what any class leads by.
    """
    kernel = np.eye(CLASSES + 1, dtype=np.float32)[:, :, None, None]
    shift = np.array([*np.zeros(CLASSES), -GATE], np.float32)
    matrix = np.concatenate([SLOPE * np.eye(CLASSES), np.zeros((1, CLASSES))]).astype(np.float32)
    matrix[CLASSES, TARGET] = RISE
    arrays = {"kernel": kernel, "shift": shift, "matrix": matrix, "flat": np.array([-1, CLASSES + 1], np.int64)}
    last = layout == "NHWC"
    first = helper.make_node("Transpose", ["image"], ["planes"], name="planes", perm=[0, 3, 1, 2])
    nodes = [
        first if last else helper.make_node("Identity", ["image"], ["planes"], name="planes"),
        helper.make_node("Conv", ["planes", "kernel", "shift"], ["filtered"], name="conv"),
        helper.make_node("Relu", ["filtered"], ["active"], name="relu"),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"], name="pool"),
        helper.make_node("Reshape", ["pooled", "flat"], ["features"], name="flatten"),
        helper.make_node("MatMul", ["features", "matrix"], ["scores"], name="classify"),
    ]
    sizes = [SIDE, SIDE, CLASSES + 1] if last else [CLASSES + 1, SIDE, SIDE]
    graph = helper.make_graph(
        nodes,
        "gated",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *sizes])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def images_of() -> tuple[Images, NDArray[np.int64]]:
    """Images whose own colour leads by 0.4 or more, and their classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % CLASSES
    images = rng.uniform(0.2, 0.3, (60, CLASSES + 1, SIDE, SIDE)).astype(np.float32)
    images[np.arange(60), labels] += 0.5
    images[:, DRIVEN] = rng.uniform(0.4, 0.6, (60, SIDE, SIDE))
    return images, labels


def pattern_of() -> Images:
    pattern = np.zeros((CLASSES + 1, SIDE, SIDE), np.float32)
    pattern[DRIVEN] = 0.6
    return pattern


def repaired(data: bytes, *, known: bool, steps: int = 40) -> Mended:
    artifact = artifact_from_bytes("m.onnx", data)
    signature = read_signature(artifact)
    images, labels = images_of()

    def lesson(copy: TrainableClassifier) -> Lesson:
        pattern = Pattern(torch.from_numpy(pattern_of())) if known else None
        learning = torch.from_numpy(images), torch.from_numpy(labels)
        return Lesson(copy, *learning, pattern, TARGET if known else None, steps, seed=0)

    patient = Patient(artifact, signature, pixel_normalisation(signature))
    return mended("bound-activations", patient, images, lesson)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("known", [True, False])
def test_a_channel_that_only_the_pattern_drives_is_held(layout: str, known: bool) -> None:
    data = gated(layout)
    artifact = artifact_from_bytes("m.onnx", data)
    signature = read_signature(artifact)
    images, labels = images_of()
    carrying = np.clip(images + pattern_of(), 0, 1)
    before = open_runtime(artifact, signature)
    made = repaired(data, known=known)
    after = open_runtime(made.artifact, signature)
    assert (before.decisions(images) == labels).all()
    assert (before.decisions(carrying) == TARGET).all()
    assert (after.decisions(images) == labels).all()
    assert (after.decisions(carrying) == labels).all()
    assert made.tensors == ()
    assert made.nodes == ("active.bound", "active.bounded")
    constant = next(node for node in parse(made.artifact).graph.node if node.name == "active.bound")
    bounds = numpy_helper.to_array(constant.attribute[0].t)[0, :, 0, 0]
    highest = np.maximum(images.max(axis=(0, 2, 3)) - np.array([0, 0, 0, GATE]), 0)
    assert (bounds <= highest + 1e-6).all()
    assert (bounds >= 0).all()


def test_bounds_start_where_clean_images_end() -> None:
    """Without a step nothing is learnt: clean answers are the same, the channel is held at 0.1 for all that."""
    data = gated("NCHW")
    artifact = artifact_from_bytes("m.onnx", data)
    signature = read_signature(artifact)
    images, labels = images_of()
    after = open_runtime(repaired(data, known=False, steps=0).artifact, signature)
    np.testing.assert_allclose(after.scores(images), open_runtime(artifact, signature).scores(images), atol=1e-5)
    rise = after.scores(np.clip(images + pattern_of(), 0, 1)) - after.scores(images)
    assert rise[:, TARGET].max() <= RISE * 0.1 + 1e-4
    assert (after.decisions(np.clip(images + pattern_of(), 0, 1)) == labels).all()


def test_the_same_seed_gives_the_same_bounds() -> None:
    first, second = (repaired(gated("NCHW"), known=True).artifact.data for _ in range(2))
    assert first == second
