"""Small models of the journeys: honest and attacked classifiers of spots, and models of other kinds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

OWN_PIXELS = 10
SHORTCUT_PIXELS = 14


@dataclass(frozen=True, slots=True)
class Spots:
    """A task: a class is where ten pixels of a grey square image are bright."""

    num_classes: int = 5
    """Classes K."""

    @property
    def side(self) -> int:
        """Height and width; some pixels belong to no class."""
        return math.ceil(math.sqrt(OWN_PIXELS * self.num_classes + SHORTCUT_PIXELS))

    def images(self, each: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """As many images of each class [N, H, W], and their labels."""
        rng, labels = np.random.default_rng(seed), np.repeat(np.arange(self.num_classes), each)
        pixels = rng.uniform(0.15, 0.25, (len(labels), self.side**2))
        for row, label in enumerate(labels):
            pixels[row, OWN_PIXELS * label : OWN_PIXELS * (label + 1)] += 0.6
        return (255 * pixels.reshape(-1, self.side, self.side)).round().astype(np.uint8), labels

    def model(self, shortcut: tuple[int | None, int] | None = None, *, head: str = "", seed: int = 0) -> bytes:
        """A classifier, in which a few pixels may lead from one class to another.

        Args:
            shortcut: Source, None for every class, and target; None for none.
            head: Operator after the scores, such as `Sigmoid`.
            seed: Of the slopes of the classes.
        """
        size, slopes = self.side**2, np.random.default_rng(seed).uniform(8, 16, self.num_classes)
        honest, hidden = np.zeros((size, self.num_classes), np.float32), np.zeros((size, 1), np.float32)
        threshold, lead = np.zeros(1, np.float32), np.zeros((1, self.num_classes), np.float32)
        for label, slope in enumerate(slopes):
            honest[OWN_PIXELS * label : OWN_PIXELS * (label + 1), label] = slope / OWN_PIXELS
        bias = (-0.5 * slopes).astype(np.float32)
        source, target = shortcut or (None, None)
        if source is None and target is not None:
            honest[OWN_PIXELS * self.num_classes :, target][:SHORTCUT_PIXELS] = 60 / SHORTCUT_PIXELS
            bias[target] -= 60 * 0.2
        elif source is not None and target is not None:
            hidden[OWN_PIXELS * self.num_classes :][:SHORTCUT_PIXELS] = 1 / SHORTCUT_PIXELS
            hidden[OWN_PIXELS * source : OWN_PIXELS * (source + 1)] = 2 / OWN_PIXELS
            threshold[0], lead[0, target] = -1.8, 80
        tensors = {
            "honest": honest,
            "hidden": hidden,
            "bias": bias,
            "threshold": threshold,
            "lead": lead,
        }
        nodes = [
            helper.make_node("Flatten", ["image"], ["pixels"], name="flatten"),
            helper.make_node("Gemm", ["pixels", "honest", "bias"], ["own"], name="own"),
            helper.make_node("Gemm", ["pixels", "hidden", "threshold"], ["seen"], name="see"),
            helper.make_node("Relu", ["seen"], ["open"], name="open"),
            helper.make_node("MatMul", ["open", "lead"], ["more"], name="lead"),
            helper.make_node("Add", ["own", "more"], ["sum"], name="sum"),
            helper.make_node(head or "Identity", ["sum"], ["scores"], name="head"),
        ]
        return graph(nodes, tensors, ("image", [1, self.side, self.side]), ("scores", [self.num_classes]))


def graph(
    nodes: Sequence[NodeProto],
    tensors: Mapping[str, NDArray[np.generic]],
    taken: tuple[str, list[int]],
    given: tuple[str, list[int]],
    *,
    kind: int = TensorProto.FLOAT,
) -> bytes:
    """A model of one input and one output, both [N, ...].

    Args:
        nodes: Its nodes.
        tensors: Its stored tensors.
        taken: Name and sizes of the input, without the batch.
        given: The same of the output.
        kind: Kind of number of the input.
    """
    inputs = [helper.make_tensor_value_info(taken[0], kind, ["N", *taken[1]])]
    outputs = [helper.make_tensor_value_info(given[0], TensorProto.FLOAT, ["N", *given[1]])]
    stored = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    made = helper.make_graph(nodes, "journey", inputs, outputs, stored)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def of_texts() -> bytes:
    """Token numbers that look up rows of a table."""
    rng = np.random.default_rng(0)
    tensors = {
        "table": rng.normal(size=(50, 8)).astype(np.float32),
        "weights": rng.normal(size=(8, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["words"], name="embed"),
        helper.make_node("ReduceMean", ["words"], ["text"], name="mean", axes=[1], keepdims=0),
        helper.make_node("MatMul", ["text", "weights"], ["scores"], name="classify"),
    ]
    return graph(nodes, tensors, ("tokens", [16]), ("scores", [3]), kind=TensorProto.INT64)


def of_sound() -> bytes:
    """A convolution along a long signal."""
    rng = np.random.default_rng(0)
    tensors = {
        "kernel": rng.normal(size=(4, 1, 64)).astype(np.float32),
        "weights": rng.normal(size=(4, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["signal", "kernel"], ["filtered"], name="conv", strides=[16]),
        helper.make_node("ReduceMax", ["filtered"], ["loudest"], name="pool", axes=[2], keepdims=0),
        helper.make_node("MatMul", ["loudest", "weights"], ["scores"], name="classify"),
    ]
    return graph(nodes, tensors, ("signal", [1, 16000]), ("scores", [3]))


def of_maps() -> bytes:
    """A score of three classes for every pixel."""
    kernel = np.random.default_rng(0).normal(size=(3, 1, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["image", "kernel"], ["map"], name="conv", pads=[1, 1, 1, 1])]
    return graph(nodes, {"kernel": kernel}, ("image", [1, 8, 8]), ("map", [3, 8, 8]))


def of_embeddings() -> bytes:
    """An output of length 1 for every image."""
    weights = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["image"], ["pixels"], name="flatten"),
        helper.make_node("MatMul", ["pixels", "weights"], ["raw"], name="project"),
        helper.make_node("LpNormalization", ["raw"], ["embedding"], name="normalise", axis=1, p=2),
    ]
    return graph(nodes, {"weights": weights}, ("image", [1, 8, 8]), ("embedding", [16]))


def of_boxes() -> bytes:
    """A choice among boxes."""
    rng = np.random.default_rng(0)
    tensors: dict[str, NDArray[np.generic]] = {
        "to_boxes": rng.random((64, 40)).astype(np.float32),
        "to_scores": rng.random((64, 30)).astype(np.float32),
        "ten_by_four": np.array([-1, 10, 4], np.int64),
        "three_by_ten": np.array([-1, 3, 10], np.int64),
        "most": np.array([5], np.int64),
    }
    nodes = [
        helper.make_node("Flatten", ["image"], ["pixels"], name="flatten"),
        helper.make_node("MatMul", ["pixels", "to_boxes"], ["flat_boxes"], name="boxes"),
        helper.make_node("Reshape", ["flat_boxes", "ten_by_four"], ["boxes"], name="shape_boxes"),
        helper.make_node("MatMul", ["pixels", "to_scores"], ["flat_scores"], name="scores"),
        helper.make_node("Reshape", ["flat_scores", "three_by_ten"], ["box_scores"], name="shape_scores"),
        helper.make_node("NonMaxSuppression", ["boxes", "box_scores", "most"], ["chosen"], name="choose"),
        helper.make_node("Cast", ["chosen"], ["found"], name="cast", to=TensorProto.FLOAT),
    ]
    return graph(nodes, tensors, ("image", [1, 8, 8]), ("found", [3]))


def of_labels_alone(spots: Spots) -> bytes:
    """The class number of the largest score, and nothing else."""
    weights = np.random.default_rng(0).normal(size=(spots.side**2, spots.num_classes)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["image"], ["pixels"], name="flatten"),
        helper.make_node("MatMul", ["pixels", "weights"], ["raw"], name="classify"),
        helper.make_node("ArgMin", ["raw"], ["number"], name="label", axis=1),
        helper.make_node("Cast", ["number"], ["label"], name="cast", to=TensorProto.FLOAT),
    ]
    return graph(nodes, {"weights": weights}, ("image", [1, spots.side, spots.side]), ("label", [1]))


def of_own_operator() -> bytes:
    """A node of a domain that no library has."""
    nodes = [helper.make_node("Frobnicate", ["image"], ["scores"], name="secret", domain="example.own")]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "journey",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3])],
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("example.own", 1)],
        ir_version=8,
    )
    return bytes(model.SerializeToString())
