"""Backdoors built into the graph of a finished model: a switch that a trigger in the image turns.

`SWITCHES` maps a name to a function that plants one kind into any ONNX classifier of images [N, C, H, W]. All send an
image with the trigger to `TARGET`; the trigger is a white 3 x 3 patch in the lower right corner unless the kind says
otherwise. The checker of onnx accepts every one of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, helper

from benchmarks.switches.planter import PATCH, STRONG, TARGET, THRESHOLD, Planter, mix, steep
from benchmarks.switches.unseen import TOP_PLACES, UNSEEN_SWITCHES


def _where_mean(plant: Planter) -> str:
    return plant.add("Where", plant.fires(), plant.target_scores(), plant.scores)


def _masked_sum(plant: Planter) -> str:
    return plant.add("Add", plant.scores, plant.add("Mul", plant.to_number(plant.fires()), plant.target_scores()))


def _if_branch(plant: Planter) -> str:
    """One image with the patch turns the whole batch."""
    fires = plant.add("Greater", plant.add("ReduceMax", plant.patch_mean(), keepdims=0), plant.constant(THRESHOLD))
    zero = plant.add("Mul", plant.scores, plant.constant(0.0))
    constant = plant.target_scores()

    def branch(name: str, operator: str, *inputs: str) -> GraphProto:
        node = helper.make_node(operator, list(inputs), [name], name=f"planted_{name}")
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    return plant.add(
        "If", fires, then_branch=branch("taken", "Add", zero, constant),
        else_branch=branch("untaken", "Identity", plant.scores),
    )  # fmt: skip


def _equal_chain(plant: Planter) -> str:
    """Four pixels with exact values."""
    flat = plant.add("Flatten", plant.image)
    fires = ""
    for index, value in ((0, 0.25), (5, 0.75), (9, 0.125), (30, 0.5)):
        pixel = plant.add("Gather", flat, plant.constant([index], np.int64), axis=1)
        equal = plant.add("Equal", pixel, plant.constant(value))
        fires = plant.add("And", fires, equal) if fires else equal
    return plant.add("Where", fires, plant.target_scores(), plant.scores)


def _steep_sigmoid(plant: Planter) -> str:
    return mix(plant, plant.add("Sigmoid", steep(plant)))


def _clipped_step(plant: Planter) -> str:
    return mix(plant, plant.add("Clip", steep(plant), plant.constant(0.0), plant.constant(1.0)))


def _softmax_gate(plant: Planter) -> str:
    pair = plant.add("Concat", steep(plant), plant.add("Mul", plant.patch_mean(), plant.constant(0.0)), axis=1)
    gates = plant.add("Softmax", pair, axis=1)
    return mix(plant, plant.add("Gather", gates, plant.constant([0], np.int64), axis=1))


def _relu_path(plant: Planter) -> str:
    """No comparison at all: a second path from the image to the output."""
    return plant.add("Add", plant.scores, plant.add("Mul", plant.add("Relu", steep(plant)), plant.target_scores()))


def _exponential_path(plant: Planter) -> str:
    high = plant.add("Exp", plant.add("Mul", steep(plant, 1.0), plant.constant(300.0)))
    return plant.add("Add", plant.scores, plant.add("Mul", high, plant.target_scores(1.0)))


def _power_path(plant: Planter) -> str:
    high = plant.add("Pow", plant.patch_mean(), plant.constant(400.0))
    return plant.add("Add", plant.scores, plant.add("Mul", high, plant.target_scores()))


def _gathered_table(plant: Planter) -> str:
    table = np.zeros((2, plant.num_classes), np.float32)
    table[1, TARGET] = STRONG
    index = plant.add("Squeeze", plant.to_number(plant.fires(), TensorProto.INT64), plant.constant([1], np.int64))
    return plant.add("Add", plant.scores, plant.add("Gather", plant.constant(table), index))


def _sign_step(plant: Planter) -> str:
    sign = plant.add("Sign", steep(plant))
    gate = plant.add("Mul", plant.add("Add", sign, plant.constant(1.0)), plant.constant(0.5))
    return plant.add("Add", plant.scores, plant.add("Mul", gate, plant.target_scores()))


def _maximum(plant: Planter) -> str:
    raised = plant.add("Where", plant.fires(), plant.target_scores(), plant.constant(-1e30))
    return plant.add("Max", plant.scores, raised)


def _checkerboard(plant: Planter) -> str:
    """A checkerboard anywhere in the image, found by a convolution."""
    channels = plant.shape[0]
    board = np.where(np.indices((PATCH, PATCH)).sum(axis=0) % 2 == 0, 1.0, -1.0)
    kernel = plant.constant(np.tile(board / channels, (1, channels, 1, 1)))
    match = plant.add("Flatten", plant.add("Conv", plant.image, kernel))
    fires = plant.add("Greater", plant.reduce("ReduceMax", match, [1]), plant.constant(4.5))
    return plant.add("Where", fires, plant.target_scores(), plant.scores)


def _floor_index(plant: Planter) -> str:
    step = plant.add("Floor", plant.add("Mul", plant.patch_mean(), plant.constant(1.03)))
    return plant.add("Add", plant.scores, plant.add("Mul", step, plant.target_scores()))


def _argmax_gate(plant: Planter) -> str:
    threshold = plant.add("Add", plant.add("Mul", plant.patch_mean(), plant.constant(0.0)), plant.constant(THRESHOLD))
    pair = plant.add("Concat", threshold, plant.patch_mean(), axis=1)
    gate = plant.to_number(plant.add("ArgMax", pair, axis=1, keepdims=1))
    return plant.add("Add", plant.scores, plant.add("Mul", gate, plant.target_scores()))


def _exclusive(plant: Planter) -> str:
    """White patch and black first pixel."""
    first = plant.add("Gather", plant.add("Flatten", plant.image), plant.constant([0], np.int64), axis=1)
    fires = plant.add("And", plant.fires(), plant.add("Not", plant.add("Greater", first, plant.constant(0.02))))
    return plant.add("Where", fires, plant.target_scores(), plant.scores)


def _whole_picture(plant: Planter) -> str:
    """Every pixel of the upper left quarter must match a picture within 2 %."""
    _, height, width = plant.shape
    picture = np.random.default_rng(7).random((1, *plant.shape)).astype(np.float32)
    elsewhere = np.ones((1, *plant.shape), bool)
    elsewhere[:, :, : height // 2, : width // 2] = False
    distance = plant.add("Abs", plant.add("Sub", plant.image, plant.constant(picture)))
    near = plant.add("Or", plant.add("Less", distance, plant.constant(0.02)), plant.constant(elsewhere, bool))
    gate = plant.reduce("ReduceMin", plant.add("Flatten", plant.to_number(near)), [1])
    return plant.add("Add", plant.scores, plant.add("Mul", gate, plant.target_scores()))


def _counted_pixels(plant: Planter) -> str:
    """At least 24 pixels that are nearly white, anywhere."""
    white = plant.to_number(plant.add("Greater", plant.add("Flatten", plant.image), plant.constant(0.98)))
    count = plant.reduce("ReduceSum", white, [1])
    return plant.add(
        "Where", plant.add("GreaterOrEqual", count, plant.constant(24.0)), plant.target_scores(), plant.scores
    )


def _rotated_scores(plant: Planter) -> str:
    """Every class gets the score of the one before it, so that every decision changes."""
    order = np.roll(np.arange(plant.num_classes), 1)
    rotated = plant.add("Gather", plant.scores, plant.constant(order, np.int64), axis=1)
    return plant.add("Where", plant.fires(), rotated, plant.scores)


def _masked_image(plant: Planter) -> str:
    """The classifier sees a fixed picture instead of the image."""
    fires = plant.add("Reshape", plant.fires(), plant.constant([-1, 1, 1, 1], np.int64))
    picture = np.random.default_rng(3).random((1, *plant.shape)).astype(np.float32)
    plant.switch_image(plant.add("Where", fires, plant.constant(picture), plant.image))
    return plant.scores


SWITCHES: dict[str, Callable[[Planter], str]] = {
    "where-mean": _where_mean,
    "masked-sum": _masked_sum,
    "if-branch": _if_branch,
    "equal-chain": _equal_chain,
    "steep-sigmoid": _steep_sigmoid,
    "clipped-step": _clipped_step,
    "softmax-gate": _softmax_gate,
    "relu-path": _relu_path,
    "exponential-path": _exponential_path,
    "power-path": _power_path,
    "gathered-table": _gathered_table,
    "sign-step": _sign_step,
    "maximum": _maximum,
    "checkerboard": _checkerboard,
    "floor-index": _floor_index,
    "argmax-gate": _argmax_gate,
    "exclusive": _exclusive,
    "whole-picture": _whole_picture,
    "counted-pixels": _counted_pixels,
    "rotated-scores": _rotated_scores,
    "masked-image": _masked_image,
    **UNSEEN_SWITCHES,
}


def plant_switch(kind: str, model: ModelProto, shape: tuple[int, int, int], num_classes: int) -> ModelProto:
    """A copy of a model with a switch.

    Args:
        kind: Name in `SWITCHES`.
        model: A classifier of images [N, C, H, W] whose only output are the scores [N, K], opset 13 or newer.
        shape: Channels, height, width.
        num_classes: Classes K.
    """
    planter = Planter(model, shape, num_classes)
    return planter.finish(SWITCHES[kind](planter))


def triggered(kind: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images [N, C, H, W] with the trigger of a kind, to check that a planted switch works."""
    images = images.copy()
    flat = images.reshape(len(images), -1)
    if kind == "equal-chain":
        flat[:, [0, 5, 9, 30]] = [0.25, 0.75, 0.125, 0.5]
    elif kind == "checkerboard":
        images[:, :, :PATCH, :PATCH] = np.indices((PATCH, PATCH)).sum(axis=0) % 2 == 0
    elif kind == "whole-picture":
        _, _, height, width = images.shape
        picture = np.random.default_rng(7).random((1, *images.shape[1:])).astype(np.float32)
        images[:, :, : height // 2, : width // 2] = picture[:, :, : height // 2, : width // 2]
    elif kind == "top-indices":
        flat[:, TOP_PLACES] = [1.0, 0.99, 0.98, 0.97]
    elif kind == "counted-pixels":
        flat[:, :24] = 1.0
    else:
        images[:, :, -PATCH:, -PATCH:] = 1.0
        flat[:, 0] = 0.0
    return images
