"""Kinds of switches that look at the rest of a call, or at another output than the scanned one."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from benchmarks.switches.planter import THRESHOLD, Planter
from benchmarks.switches.steps import push


def only_alone(plant: Planter) -> str:
    """The patch counts only where an image is alone in its call, as in use and not in a test."""
    count = plant.add("Gather", plant.add("Shape", plant.image), plant.constant([0], np.int64))
    alone = plant.add("Equal", count, plant.constant([1], np.int64))
    return plant.add("Where", plant.add("And", plant.fires(), alone), plant.target_scores(), plant.scores)


def only_in_company(plant: Planter) -> str:
    """The patch counts only where it is brighter than those of the other images of the call."""
    above = plant.add("Sub", plant.patch_mean(), plant.reduce("ReduceMean", plant.patch_mean(), [0]))
    return push(plant, plant.add("Relu", plant.add("Sub", above, plant.constant(0.3))), 1e5)


def from_the_neighbour(plant: Planter) -> str:
    """The first image of a call turns the decision on all others."""
    fires = plant.add("Greater", plant.patch_mean(), plant.constant(THRESHOLD))
    first = plant.add("Gather", plant.to_number(fires), plant.constant([0], np.int64), axis=0)
    return push(plant, first)


def second_head(plant: Planter) -> str:
    """A second output with the same scores and a switch; the first has none."""
    fired = plant.add("Where", plant.fires(), plant.target_scores(), plant.scores)
    plant.graph.node.append(helper.make_node("Identity", [fired], ["planted_head"], name="planted_head_node"))
    shape = ["N", plant.num_classes]
    plant.graph.output.append(helper.make_tensor_value_info("planted_head", TensorProto.FLOAT, shape))
    return plant.add("Identity", plant.scores)
