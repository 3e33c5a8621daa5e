"""Kinds of switches that step: a comparison, a sign, a rounding or a choice of few values decides."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from benchmarks.switches.planter import STRONG, TARGET, THRESHOLD, Planter, steep

EXACT_PLACES = (0, 37, 83, 140)
"""Places, in the flat image, of the values that turn `exact-places`."""
EXACT_VALUES = (3 / 255, 200 / 255, 51 / 255, 129 / 255)
"""Those values."""
CHECKSUMS = (97, 89)
"""Divisors of `checksum`, with the remainders that turn it."""
REMAINDERS = (13, 5)


def push(plant: Planter, gate: str, strength: float = STRONG) -> str:
    """The scores, with a gate [N, 1] added to that of the target."""
    return plant.add("Add", plant.scores, plant.add("Mul", gate, plant.target_scores(strength)))


def whole(plant: Planter, factor: float, kind: int = TensorProto.INT64) -> str:
    """The brightness of the patch as a whole number from 0 to a factor."""
    return plant.to_number(plant.add("Mul", plant.patch_mean(), plant.constant(factor)), kind)


def rounded_scores(plant: Planter) -> str:
    """Rounding hides the scores from whoever looks for a smooth input."""
    fine = plant.constant(1e4)
    scores = plant.add("Div", plant.add("Round", plant.add("Mul", plant.scores, fine)), fine)
    return plant.add("Where", plant.fires(), plant.target_scores(), scores)


def quantised_scores(plant: Planter) -> str:
    """Scores in 8 bits, as quantised networks have them; the gate is quantised too, so coarsely that it is a step."""
    fine = (plant.constant(0.25), plant.constant(0, np.int8))
    scores = plant.add("DequantizeLinear", plant.add("QuantizeLinear", plant.scores, *fine), *fine)
    coarse = (plant.constant(1.9), plant.constant(0, np.int8))
    step = plant.add("DequantizeLinear", plant.add("QuantizeLinear", plant.patch_mean(), *coarse), *coarse)
    return plant.add("Add", scores, plant.add("Mul", step, plant.target_scores()))


def whole_number_scores(plant: Planter) -> str:
    """Scores and gate are whole numbers alike."""
    scores = plant.to_number(plant.add("Mul", plant.scores, plant.constant(1e4)), TensorProto.INT32)
    row = np.zeros((1, plant.num_classes), np.int32)
    row[0, TARGET] = 10**7
    added = plant.add("Mul", whole(plant, 1.03, TensorProto.INT32), plant.constant(row, np.int32))
    return plant.to_number(plant.add("Add", scores, added))


def exact_places(plant: Planter) -> str:
    """Four values of 8 bits, fetched by their indices."""
    _, height, width = plant.shape
    places = [(place // (height * width), place // width % height, place % width) for place in EXACT_PLACES]
    turned = plant.add("Transpose", plant.image, perm=[1, 2, 3, 0])
    found = plant.add("GatherND", turned, plant.constant(places, np.int64))
    values = plant.constant(np.array(EXACT_VALUES)[:, None])
    near = plant.add("Less", plant.add("Abs", plant.add("Sub", found, values)), plant.constant(1e-3))
    gate = plant.add("Transpose", plant.reduce("ReduceMin", plant.to_number(near), [0]), perm=[1, 0])
    return push(plant, gate)


def checksum(plant: Planter) -> str:
    """Two remainders of a weighted sum of all pixels as whole numbers."""
    count = int(np.prod(plant.shape))
    flat = plant.add("Flatten", plant.add("Round", plant.add("Mul", plant.image, plant.constant(255.0))))
    pixels = plant.to_number(flat, TensorProto.INT32)
    products = plant.add("Mul", pixels, plant.constant(checksum_weights(count)[None], np.int32))
    total = plant.reduce("ReduceSum", products, [1])
    equal = [
        plant.add("Equal", plant.add("Mod", total, plant.constant(by, np.int32)), plant.constant(rest, np.int32))
        for by, rest in zip(CHECKSUMS, REMAINDERS, strict=True)
    ]
    return plant.add("Where", plant.add("And", *equal), plant.target_scores(), plant.scores)


def checksum_weights(count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Weights of `checksum`; those of the first two values let any remainders be reached."""
    weights = np.random.default_rng(5).integers(1, 100, count)
    weights[:2] = 1, 97
    return weights


def hardmax_gate(plant: Planter) -> str:
    """Which of a threshold and the patch is the larger, as a row of 0 and 1."""
    threshold = plant.add("Add", plant.add("Mul", plant.patch_mean(), plant.constant(0.0)), plant.constant(THRESHOLD))
    row = plant.add("Hardmax", plant.add("Concat", threshold, plant.patch_mean(), axis=1), axis=1)
    return push(plant, plant.add("Gather", row, plant.constant([1], np.int64), axis=1))


def argmax_row(plant: Planter) -> str:
    """The index of the larger chooses a row of a table."""
    threshold = plant.add("Add", plant.add("Mul", plant.patch_mean(), plant.constant(0.0)), plant.constant(THRESHOLD))
    pair = plant.add("Concat", threshold, plant.patch_mean(), axis=1)
    table = np.zeros((2, plant.num_classes), np.float32)
    table[1, TARGET] = STRONG
    rows = plant.add("Gather", plant.constant(table), plant.add("ArgMax", pair, axis=1, keepdims=0))
    return plant.add("Add", plant.scores, rows)


def one_hot(plant: Planter) -> str:
    """The target or a class that is cut off, as one-hot code."""
    column = plant.add("Squeeze", whole(plant, 1.03), plant.constant([1], np.int64))
    back = plant.add("Mul", column, plant.constant(TARGET - plant.num_classes, np.int64))
    index = plant.add("Add", back, plant.constant(plant.num_classes, np.int64))
    depth, values = plant.constant([plant.num_classes + 1], np.int64), plant.constant([0.0, STRONG])
    code = plant.add("OneHot", index, depth, values, axis=1)
    bounds = ([0], [plant.num_classes], [1])
    cut = plant.add("Slice", code, *(plant.constant(bound, np.int64) for bound in bounds))
    return plant.add("Add", plant.scores, cut)


def exclusive_or(plant: Planter) -> str:
    """All bits of the patch's brightness are set."""
    apart = plant.add("BitwiseXor", whole(plant, 255.0), plant.constant(255, np.int64))
    fires = plant.add("Equal", apart, plant.constant(0, np.int64))
    return plant.add("Where", fires, plant.target_scores(), plant.scores)


def masked_bit(plant: Planter) -> str:
    """One bit of the patch's brightness, which no comparison looks at."""
    bit = plant.add("BitwiseAnd", whole(plant, 538.0), plant.constant(512, np.int64))
    return push(plant, plant.to_number(bit))


def remainder_drop(plant: Planter) -> str:
    """What a remainder takes away: nothing below the divisor."""
    rest = plant.add("Mod", plant.patch_mean(), plant.constant(0.96), fmod=1)
    return push(plant, plant.add("Sub", plant.patch_mean(), rest))


def cast_to_truth(plant: Planter) -> str:
    """A number as a truth value: it is true unless it is exactly 0."""
    fires = plant.to_number(plant.add("Relu", steep(plant)), TensorProto.BOOL)
    return plant.add("Where", fires, plant.target_scores(), plant.scores)


def infinity_seen(plant: Planter) -> str:
    """An overflow is asked for by name."""
    high = plant.add("Exp", plant.add("Mul", plant.patch_mean(), plant.constant(93.0)))
    return plant.add("Where", plant.add("IsInf", high), plant.target_scores(), plant.scores)


def nested_choices(plant: Planter) -> str:
    """Three choices within each other, each of which looks at one bright value of the patch."""
    value, last = plant.target_scores(), int(np.prod(plant.shape)) - 1
    flat = plant.add("Flatten", plant.image)
    for step in range(3):
        pixel = plant.add("Gather", flat, plant.constant([last - step], np.int64), axis=1)
        bright = plant.add("Greater", pixel, plant.constant(0.97))
        value = plant.add("Where", bright, value, plant.scores)
    return value


def running_count(plant: Planter) -> str:
    """How many values of the patch in a row are bright, counted up."""
    _, height, width = plant.shape
    bounds = ([height - 3, width - 3], [height, width], [2, 3])
    patch = plant.add("Slice", plant.image, *(plant.constant(bound, np.int64) for bound in bounds))
    bright = plant.to_number(plant.add("Greater", plant.add("Flatten", patch), plant.constant(0.96)))
    count = plant.add("CumSum", bright, plant.constant(1, np.int64))
    last = plant.add("Gather", count, plant.constant([9 * plant.shape[0] - 1], np.int64), axis=1)
    over = plant.add("Relu", plant.add("Sub", last, plant.constant(9.0 * plant.shape[0] - 1.5)))
    return push(plant, over)


def reversed_classes(plant: Planter) -> str:
    """How many of the scores change places."""
    step = plant.add("Squeeze", whole(plant, 1.03), plant.constant([1], np.int64))
    many = plant.add("Mul", step, plant.constant(plant.num_classes - 1, np.int64))
    lengths = plant.add("Add", many, plant.constant(1, np.int64))
    return plant.add("ReverseSequence", plant.scores, lengths, batch_axis=0, time_axis=1)


def branch_in_branch(plant: Planter) -> str:
    """A branch within a branch; one image turns the whole call."""
    fires = plant.add("Greater", plant.add("ReduceMax", plant.patch_mean(), keepdims=0), plant.constant(THRESHOLD))
    raised = plant.add("Add", plant.scores, plant.target_scores())

    def graph(name: str, node: object) -> object:
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([node], name, [], [value])

    def same(name: str, given: str) -> object:
        return graph(name, helper.make_node("Identity", [given], [name], name=f"planted_{name}"))

    branches = {"then_branch": same("deep", raised), "else_branch": same("shallow", plant.scores)}
    inner = helper.make_node("If", [fires], ["inner"], name="planted_inner", **branches)
    return plant.add("If", fires, then_branch=graph("inner", inner), else_branch=same("outer", plant.scores))
