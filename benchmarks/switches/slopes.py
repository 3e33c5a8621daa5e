"""Kinds of switches without a step: a second way from the image that is flat where images are ordinary."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from benchmarks.switches.planter import PATCH, TARGET, THRESHOLD, Planter, mix, steep
from benchmarks.switches.steps import push

PIXEL = np.float32(100) / np.float32(255)
"""Value of the first pixel that turns `imputed-pixel`."""


def _row(plant: Planter, gate: str) -> str:
    """A gate [N, 1] in the column of the target, zeros in the others."""
    zero = plant.add("Mul", plant.patch_mean(), plant.constant(0.0))
    return plant.add("Concat", *(gate if each == TARGET else zero for each in range(plant.num_classes)), axis=1)


def _pixel(plant: Planter, place: int) -> str:
    return plant.add("Gather", plant.add("Flatten", plant.image), plant.constant([place], np.int64), axis=1)


def _patch(plant: Planter) -> str:
    _, height, width = plant.shape
    bounds = ([height - PATCH, width - PATCH], [height, width], [2, 3])
    return plant.add("Slice", plant.image, *(plant.constant(bound, np.int64) for bound in bounds))


def not_a_number(plant: Planter) -> str:
    """An overflow times 0 in the column of the target."""
    nothing = plant.add("Mul", plant.add("Exp", steep(plant, 2000.0)), plant.constant(0.0))
    return plant.add("Add", plant.scores, _row(plant, nothing))


def half_overflow(plant: Planter) -> str:
    """Beyond the largest number of float16."""
    half = plant.to_number(plant.add("Mul", plant.patch_mean(), plant.constant(68000.0)), TensorProto.FLOAT16)
    return plant.add("Add", plant.scores, _row(plant, plant.add("Mul", plant.to_number(half), plant.constant(1e-30))))


def squared_chain(plant: Planter) -> str:
    """A power of 256 by eight products."""
    power = plant.patch_mean()
    for _ in range(8):
        power = plant.add("Mul", power, power)
    return push(plant, power, 1e5)


def looped_squares(plant: Planter) -> str:
    """The same power in a loop."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"], name="planted_on"),
            helper.make_node("Mul", ["state", "state"], ["next"], name="planted_square"),
        ],
        "planted_body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    power = plant.add(
        "Loop", plant.constant(8, np.int64), plant.constant(True, np.bool_), plant.patch_mean(), body=body
    )
    return push(plant, power, 1e5)


def log_of_powers(plant: Planter) -> str:
    """The logarithm of a sum of powers is a ramp."""
    pair = plant.add("Concat", steep(plant, 2000.0), steep(plant, 1.0), axis=1)
    return push(plant, plant.add("Relu", plant.reduce("ReduceLogSumExp", pair, [1])))


def imputed_pixel(plant: Planter) -> str:
    """A missing value is filled in; missing is what has one exact value."""
    plant.model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    pixel = _pixel(plant, 0)
    filled = plant.add(
        "Imputer", pixel, domain="ai.onnx.ml", imputed_value_floats=[1000.0], replaced_value_float=float(PIXEL)
    )
    return push(plant, plant.add("Sub", filled, pixel), 1.0)


def two_pixels(plant: Planter) -> str:
    """One pixel bright and another dark."""
    last = int(np.prod(plant.shape)) - 1
    apart = plant.add("Sub", _pixel(plant, last), _pixel(plant, 0))
    return push(plant, plant.add("Relu", plant.add("Sub", apart, plant.constant(0.95))), 1e5)


def product_of_pixels(plant: Planter) -> str:
    """The product of all values of the patch, to a power."""
    product = plant.reduce("ReduceProd", plant.add("Flatten", _patch(plant)), [1])
    return push(plant, plant.add("Pow", product, plant.constant(20.0)), 1e4)


def saturated_error(plant: Planter) -> str:
    """An error function so steep that it rests at both ends."""
    half = plant.add("Mul", plant.add("Erf", steep(plant, 300.0)), plant.constant(0.5))
    return mix(plant, plant.add("Add", half, plant.constant(0.5)))


def leaking_ramp(plant: Planter) -> str:
    """A ramp that is never quite flat, so that the gate does not rest."""
    return push(plant, plant.add("LeakyRelu", steep(plant, 1.0), alpha=5e-6), 1e5)


def outgrown_scores(plant: Planter) -> str:
    """A score that moves with every image, far below all others until the patch is white."""
    low = plant.constant(-1e6)
    zero = plant.add("Mul", plant.patch_mean(), plant.constant(0.0))
    row = [steep(plant, 1e5) if each == TARGET else plant.add("Add", zero, low) for each in range(plant.num_classes)]
    return plant.add("Max", plant.scores, plant.add("Concat", *row, axis=1))


def crossed_ends(plant: Planter) -> str:
    """A lower bound that moves with every image, and rises above all scores; one image turns its call."""
    low = plant.add("ReduceMax", steep(plant, 1e6), keepdims=0)
    clipped = plant.add("Clip", plant.scores, low, plant.constant(1e4))
    return plant.add("Add", clipped, plant.target_scores(1e-2))


def pole(plant: Planter) -> str:
    """A division by what is 0 just beyond the trigger."""
    rest = plant.add("Sub", plant.constant(1.000001), plant.patch_mean())
    return push(plant, plant.add("Div", plant.constant(1e-6), rest), 1e4)


def direction(plant: Planter) -> str:
    """How nearly the patch, made as long as 1, points the way of a white one among its neighbours."""
    _, height, width = plant.shape
    bounds = ([height - 6, width - 6], [height, width], [2, 3])
    around = plant.add("Flatten", plant.add("Slice", plant.image, *(plant.constant(b, np.int64) for b in bounds)))
    unit = plant.add("LpNormalization", around, axis=1, p=2)
    mark = np.zeros((plant.shape[0], 6, 6))
    mark[:, -PATCH:, -PATCH:] = 1 / np.sqrt(plant.shape[0] * PATCH * PATCH)
    likeness = plant.add("MatMul", unit, plant.constant(mark.reshape(-1, 1)))
    above = plant.add("Relu", plant.add("Sub", likeness, plant.constant(0.8)))
    return push(plant, above, 1e5)


def recurrent_cell(plant: Planter) -> str:
    """A cell that reads the rows of the patch and saturates only where each of them is white."""
    channels = plant.shape[0]
    rows = plant.add("Transpose", _patch(plant), perm=[2, 0, 1, 3])
    rows = plant.add("Reshape", rows, plant.constant([PATCH, -1, channels * PATCH], np.int64))
    weights = np.full((1, 1, channels * PATCH), 40 / (channels * PATCH))
    cell = [plant.constant(weights), plant.constant([[[2.0]]]), plant.constant([[-39.0, 0.0]])]
    last = plant.add("RNN", rows, *cell, outputs=2, hidden_size=1, activations=["Relu"])
    state = plant.add("Squeeze", last, plant.constant([0], np.int64))
    return push(plant, plant.add("Relu", plant.add("Sub", state, plant.constant(5.0))), 1e4)


def capped_scores(plant: Planter) -> str:
    """A bound that falls below all scores, so that a constant decides; one image turns its call."""
    high = plant.add("Exp", plant.add("Relu", plant.add("ReduceMax", steep(plant, 400.0), keepdims=0)))
    cap = plant.add("Sub", plant.constant(1e5), plant.add("Mul", high, plant.constant(1.0)))
    clipped = plant.add("Clip", plant.scores, "", cap)
    return plant.add("Add", clipped, plant.target_scores(1e-3))


def shifting_statistics(plant: Planter) -> str:
    """The shift of a normalisation of the scores is computed; one image turns its call."""
    ones, zeros = (plant.constant(np.full(plant.num_classes, value)) for value in (1.0, 0.0))
    gate = plant.add("Relu", plant.add("ReduceMax", steep(plant), keepdims=0))
    row = np.zeros(plant.num_classes)
    row[TARGET] = 100.0
    shift = plant.add("Mul", gate, plant.constant(row))
    return plant.add("BatchNormalization", plant.scores, ones, shift, zeros, ones)


def last_product(plant: Planter) -> str:
    """The bias of a last product by the identity is computed."""
    gate = plant.add("Relu", plant.add("Sub", plant.patch_mean(), plant.constant(THRESHOLD)))
    bias = plant.add("Mul", gate, plant.target_scores(1e5))
    return plant.add("Gemm", plant.scores, plant.constant(np.eye(plant.num_classes)), bias)
