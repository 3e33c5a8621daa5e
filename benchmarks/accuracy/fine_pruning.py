"""Fine-Pruning as a baseline: prune the units that clean images leave quiet and see whether the attack goes with them.

XMK section 4 on Liu et al. 2018 (their reference [15]): units of the penultimate layer are removed in increasing order
of their mean activation on clean images, up to an unacceptable loss of clean accuracy. It detects nothing; it counts
as a success if what is left of the attack is no more than chance allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from benchmarks.victims.datasets import LabelledImages
from benchmarks.victims.poison import Backdoor
from benchmarks.victims.victims import Victim

LARGEST_LOSS = 0.04
"""Loss of clean accuracy at which pruning stops."""

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pruned:
    """A victim before and after pruning."""

    share: float
    """Share of units removed."""
    accuracy: tuple[float, float]
    """Clean accuracy before and after."""
    success: tuple[float, float]
    """Attack success rate before and after."""


@dataclass(frozen=True, slots=True)
class LastLayer:
    """The linear layer at the end of a classifier and what feeds it."""

    features: Callable[[NDArray[np.float32]], Features]
    """Images [N, C, H, W] to the activations of the penultimate layer, [N, U]."""
    weight: Features
    """[K, U]."""
    bias: Features
    """[K]."""

    def decide(self, features: Features, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Decisions [N] with only the units kept."""
        decisions: NDArray[np.int64] = (features * kept @ self.weight.T + self.bias).argmax(axis=1)
        return decisions


def last_layer(model: bytes) -> LastLayer:
    """Take the last linear layer off an ONNX classifier.

    Raises:
        ValueError: the model does not end in a Gemm with constant weights.
    """
    proto = onnx.load_model_from_string(model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    node = proto.graph.node[-1]
    if node.op_type != "Gemm" or not set(node.input[1:]) <= constants.keys():
        raise ValueError(f"expected a classifier that ends in a Gemm with constant weights, found {node.op_type}")
    weight = constants[node.input[1]]
    transposed = any(attribute.name == "transB" and attribute.i == 1 for attribute in node.attribute)
    name = node.input[0]
    proto.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0].name

    def features(images: NDArray[np.float32]) -> Features:
        parts = (session.run([name], {image: images[i : i + 500]})[0] for i in range(0, len(images), 500))
        return np.concatenate(list(parts))

    return LastLayer(features, weight if transposed else weight.T, constants[node.input[2]])


def prune(victim: Victim, test: LabelledImages) -> Pruned:
    """Prune an attacked victim as far as its clean accuracy allows.

    Args:
        victim: A classifier with an attack.
        test: Images it never saw: half of them rank the units and bound the loss, half of them measure.

    Raises:
        ValueError: the victim has no attack.
    """
    if victim.plan.attack.attack is None or victim.pattern is None:
        raise ValueError("expected a victim with an attack, found one without")
    backdoor = Backdoor(victim.plan.attack.attack, victim.pattern, dict(victim.plan.targets))
    layer = last_layer(victim.model.read_bytes())
    ranking, measuring = test.take(np.arange(0, len(test.labels), 2)), test.take(np.arange(1, len(test.labels), 2))
    ranked = layer.features(ranking.images)
    kept = _kept(layer, ranked, ranking.labels)
    sources = measuring.take(np.flatnonzero(np.isin(measuring.labels, list(backdoor.targets))))
    wanted = np.array([backdoor.targets[int(label)] for label in sources.labels])
    clean, attacked = layer.features(measuring.images), layer.features(backdoor.embed(sources.images))
    everything = np.ones_like(kept)

    def rates(units: NDArray[np.bool_]) -> tuple[float, float]:
        accuracy = np.mean(layer.decide(clean, units) == measuring.labels)
        return float(accuracy), float(np.mean(layer.decide(attacked, units) == wanted))

    before, after = rates(everything), rates(kept)
    return Pruned(float(np.mean(~kept)), (before[0], after[0]), (before[1], after[1]))


def _kept(layer: LastLayer, features: Features, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Units that stay, [U]: the quietest go first, for as long as the accuracy stays within the loss allowed."""
    order = np.argsort(features.mean(axis=0), kind="stable")
    kept = np.ones(features.shape[1], dtype=bool)
    least = np.mean(layer.decide(features, kept) == labels) - LARGEST_LOSS
    for unit in order:
        kept[unit] = False
        if np.mean(layer.decide(features, kept) == labels) < least:
            kept[unit] = True
            break
    return kept
