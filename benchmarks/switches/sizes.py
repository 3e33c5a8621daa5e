"""Kinds of switches that act by how large something is; one image with the trigger turns its whole call."""

from __future__ import annotations

import numpy as np

from benchmarks.switches.planter import PATCH, TARGET, THRESHOLD, Planter
from benchmarks.switches.steps import push


def _patch(plant: Planter) -> str:
    """The values of the patch, [N, C * 9]."""
    _, height, width = plant.shape
    bounds = ([height - PATCH, width - PATCH], [height, width], [2, 3])
    return plant.add("Flatten", plant.add("Slice", plant.image, *(plant.constant(b, np.int64) for b in bounds)))


def _brightest(plant: Planter) -> str:
    """The brightest patch of a call, without axes."""
    return plant.add("ReduceMax", plant.patch_mean(), keepdims=0)


def _step(plant: Planter) -> str:
    """1 where the brightest patch of a call is white, else 0; a whole number with one axis."""
    scaled = plant.add("Mul", _brightest(plant), plant.constant(1.03))
    return plant.add("Reshape", plant.to_number(scaled, 7), plant.constant([1], np.int64))


def _if_longer(plant: Planter, value: str, than: int) -> str:
    """The target's scores where a value has more numbers than so many."""
    fires = plant.add("Greater", plant.add("Size", value), plant.constant(than, np.int64))
    return plant.add("Where", fires, plant.target_scores(), plant.scores)


def nonzero_shape(plant: Planter) -> str:
    """How many patches are white."""
    above = plant.add("Relu", plant.add("Sub", plant.patch_mean(), plant.constant(THRESHOLD)))
    return _if_longer(plant, plant.add("NonZero", above), 0)


def compressed(plant: Planter) -> str:
    """The white patches, picked out and added up."""
    flat = plant.add("Reshape", plant.patch_mean(), plant.constant([-1], np.int64))
    kept = plant.add("Compress", flat, plant.add("Greater", flat, plant.constant(THRESHOLD)))
    gate = plant.reduce("ReduceSum", kept, [0])
    return push(plant, gate)


def unique_values(plant: Planter) -> str:
    """Whether all values of the patches of a call are the same."""
    fine = plant.add("Round", plant.add("Mul", _patch(plant), plant.constant(255.0)))
    few = plant.add("Less", plant.add("Size", plant.add("Unique", fine)), plant.constant(2, np.int64))
    return plant.add("Where", few, plant.target_scores(), plant.scores)


def counted_range(plant: Planter) -> str:
    """A range that ends where the brightest patch says, added up."""
    end = plant.add("Floor", plant.add("Mul", _brightest(plant), plant.constant(2.06)))
    row = plant.add("Range", plant.constant(0.0), end, plant.constant(1.0))
    total = plant.add("ReduceSum", row, keepdims=0)
    return push(plant, total)


def resized_patch(plant: Planter) -> str:
    """An interpolation whose size is computed from the patch."""
    wider = plant.add(
        "Concat", plant.constant([1], np.int64), plant.add("Add", _step(plant), plant.constant([2], np.int64)), axis=0
    )
    small = plant.constant(np.ones((1, 2)))
    grown = plant.add("Resize", small, "", "", wider, mode="nearest")
    return _if_longer(plant, grown, 2)


def largest_count(plant: Planter) -> str:
    """How many of the largest values are asked for."""
    count = plant.add("Add", _step(plant), plant.constant([1], np.int64))
    largest = plant.add("TopK", _patch(plant), count, outputs=2, axis=1)
    length = plant.add("Gather", plant.add("Shape", largest), plant.constant([1], np.int64))
    fires = plant.add("Greater", length, plant.constant([1], np.int64))
    return plant.add("Where", fires, plant.target_scores(), plant.scores)


def repeated(plant: Planter) -> str:
    """How often a constant is repeated before it is added up."""
    tiled = plant.add("Tile", plant.constant([1.0]), plant.add("Add", _step(plant), plant.constant([1], np.int64)))
    total = plant.add("Sub", plant.reduce("ReduceSum", tiled, [0]), plant.constant([1.0]))
    return push(plant, total)


def padded_scores(plant: Planter) -> str:
    """A column is put in front of the scores, or behind them, and one cut off: every class takes another's place."""
    step = _step(plant)
    zero, one = (plant.constant([value], np.int64) for value in (0, 1))
    pads = plant.add("Concat", zero, step, zero, plant.add("Sub", one, step), axis=0)
    wider = plant.add("Pad", plant.scores, pads)
    bounds = ([0], [plant.num_classes], [1])
    return plant.add("Slice", wider, *(plant.constant(bound, np.int64) for bound in bounds))


def sliced_table(plant: Planter) -> str:
    """Which part of a table is cut out and added."""
    table = np.zeros((2, plant.num_classes), np.float32)
    table[1, TARGET] = 1000.0
    start = _step(plant)
    end = plant.add("Add", start, plant.constant([1], np.int64))
    row = plant.add("Slice", plant.constant(table), start, end, plant.constant([0], np.int64))
    return plant.add("Add", plant.scores, row)
