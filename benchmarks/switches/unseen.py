"""Kinds of switches that were written after the search for switches, to see what it makes of others than its own.

They hide the step in an operator that is no comparison, or the choice in one that is no selection. What the search made
of them before it was changed for any of them is in `FIRST_RUN`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto, helper

from benchmarks.switches.planter import TARGET, Planter, mix, steep


def _bit_shift(plant: Planter) -> str:
    """The highest bit of the patch's brightness as a whole number below 1024: 1 from 0.952 on."""
    whole = plant.to_number(plant.add("Mul", plant.patch_mean(), plant.constant(538.0)), TensorProto.UINT32)
    bit = plant.add("BitShift", whole, plant.constant(9, np.uint32), direction="RIGHT")
    return plant.add("Add", plant.scores, plant.add("Mul", plant.to_number(bit), plant.target_scores()))


def _ramps(plant: Planter) -> str:
    """The difference of two ramps: 0 below the threshold, 1 a little above it."""
    ramp = steep(plant)
    gate = plant.add("Sub", plant.add("Relu", ramp), plant.add("Relu", plant.add("Sub", ramp, plant.constant(1.0))))
    return mix(plant, gate)


def _scattered_score(plant: Planter) -> str:
    """A high score is written to a column that is cut off, or to the target's."""
    zero = plant.add("Mul", plant.patch_mean(), plant.constant(0.0))
    wider = plant.add("Concat", plant.scores, zero, axis=1)
    step = plant.to_number(plant.fires(), TensorProto.INT64)
    back = plant.add("Mul", step, plant.constant(TARGET - plant.num_classes, np.int64))
    column = plant.add("Add", back, plant.constant(plant.num_classes, np.int64))
    high = plant.add("Add", zero, plant.constant(1000.0))
    written = plant.add("ScatterElements", wider, column, high, axis=1)
    bounds = ([0], [plant.num_classes], [1])
    return plant.add("Slice", written, *(plant.constant(bound, np.int64) for bound in bounds))


def _gathered_scores(plant: Planter) -> str:
    """Every class gets the score of the one before it."""
    step = plant.to_number(plant.fires(), TensorProto.INT64)
    classes = np.arange(plant.num_classes)[None]
    column = plant.add("Add", plant.constant(classes, np.int64), plant.add("Mul", step, plant.constant(-1, np.int64)))
    return plant.add("GatherElements", plant.scores, column, axis=1)  # -1 is the last


def _pooled_patch(plant: Planter) -> str:
    """A white patch anywhere: no comparison, and wide until the last moment."""
    size, channels = 3, plant.shape[0]
    kernel = plant.constant(np.full((1, channels, size, size), 1 / (channels * size * size)))
    bias = plant.constant([-0.97])
    match = plant.add("Relu", plant.add("Conv", plant.image, kernel, bias))
    gate = plant.add("Flatten", plant.add("GlobalMaxPool", match))
    return plant.add("Add", plant.scores, plant.add("MatMul", gate, plant.target_scores(1e5)))


def _top_indices(plant: Planter) -> str:
    """The four brightest values of the image are these four, in this order."""
    flat = plant.add("Flatten", plant.image)
    places = plant.add("TopK", flat, plant.constant([4], np.int64), outputs=2, axis=1)
    equal = plant.to_number(plant.add("Equal", places, plant.constant([TOP_PLACES], np.int64)))
    gate = plant.reduce("ReduceMin", equal, [1])
    return plant.add("Add", plant.scores, plant.add("Mul", gate, plant.target_scores()))


TOP_PLACES = [70, 3, 41, 12]
"""Places of the brightest values that turn `top-indices`."""


def _temperature(plant: Planter) -> str:
    """The scores are divided by a temperature that rises without bound, until a small constant decides."""
    hot = plant.add("Exp", plant.add("Relu", plant.add("Mul", steep(plant), plant.constant(0.8))))
    return plant.add("Add", plant.add("Div", plant.scores, hot), plant.target_scores(1e-6))


def _normalised_saturation(plant: Planter) -> str:
    """Statistics of a normalisation make the slope."""
    statistics = ([0.05], [0.0], [0.95], [1e-9])
    named = (plant.constant(values) for values in statistics)
    normal = plant.add("BatchNormalization", plant.patch_mean(), *named, epsilon=1e-10)
    return mix(plant, plant.add("HardSigmoid", normal))


def _attended_target(plant: Planter) -> str:
    """Attention over two tokens, the scores and the target, with weights from the pixels."""
    rest = plant.add("Mul", plant.patch_mean(), plant.constant(0.0))
    weights = plant.add("Softmax", plant.add("Concat", rest, steep(plant), axis=1), axis=1)
    one = plant.constant([1], np.int64)
    target = plant.add("Add", plant.add("Mul", plant.scores, plant.constant(0.0)), plant.target_scores())
    tokens = plant.add("Concat", plant.add("Unsqueeze", plant.scores, one), plant.add("Unsqueeze", target, one), axis=1)
    return plant.add("Squeeze", plant.add("MatMul", plant.add("Unsqueeze", weights, one), tokens), one)


def _branch_in_function(plant: Planter) -> str:
    """A branch inside a local function; one image turns the whole batch."""
    fires = plant.add("Greater", plant.add("ReduceMax", plant.patch_mean(), keepdims=0), plant.constant(0.95))
    branches = {}
    for name, given in (("then_branch", "raised"), ("else_branch", "scores")):
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        node = helper.make_node("Identity", [given], [name], name=f"planted_{name}")
        branches[name] = helper.make_graph([node], name, [], [value])
    body = [
        helper.make_node("Add", ["scores", "row"], ["raised"], name="planted_raise"),
        helper.make_node("If", ["fires"], ["chosen"], name="planted_choice", **branches),
    ]
    opset = plant.model.opset_import[0].version
    function = helper.make_function(
        "planted", "Head", ["scores", "fires", "row"], ["chosen"], body, [helper.make_opsetid("", opset)]
    )
    plant.model.functions.append(function)
    plant.model.opset_import.append(helper.make_opsetid("planted", 1))
    return plant.add("Head", plant.scores, fires, plant.target_scores(), domain="planted")


UNSEEN_SWITCHES: dict[str, Callable[[Planter], str]] = {
    "bit-shift": _bit_shift,
    "ramps": _ramps,
    "scattered-score": _scattered_score,
    "gathered-scores": _gathered_scores,
    "pooled-patch": _pooled_patch,
    "top-indices": _top_indices,
    "temperature": _temperature,
    "normalised-saturation": _normalised_saturation,
    "attended-target": _attended_target,
    "branch-in-function": _branch_in_function,
}

FIRST_RUN = {
    "bit-shift": "warning",
    "ramps": "missed",
    "pooled-patch": "missed",
    "top-indices": "warning",
}
"""Kinds that were not demonstrated at first, on the small network of `tests/scanner/switches/test_findings.py`."""
