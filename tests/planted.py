"""Untrained models with answers known on paper, built node by node.

`linear_softmax` has the least pattern between two classes in closed form; `shortcut` has one pair of classes that a
few pixels lead across, and no other. Images are [N, C, H, W] float32 in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Images = NDArray[np.float32]
HEADS = ("logits", "probabilities", "log_probabilities", "sigmoids")
SHORTCUT_PIXELS = 4


def linear_parameters(
    num_classes: int = 4, image_shape: tuple[int, int, int] = (1, 6, 6), seed: int = 0
) -> tuple[Images, NDArray[np.float32]]:
    """Weight [K, C, H, W] and bias [K] of a linear classifier."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(num_classes, *image_shape)).astype(np.float32)
    return weight, (0.1 * rng.normal(size=num_classes)).astype(np.float32)


def least_sizes(
    weight: Images, bias: NDArray[np.float32], images: Images, target: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least L2 size that moves each image over the boundary to `target`, and the direction from its own class.

    On a linear classifier the boundary between the decision s and the target t is a plane: the way to it is the margin
    (w_s - w_t) x + b_s - b_t over the norm of w_s - w_t, along w_t - w_s. Clipping to [0, 1] is not counted.

    Returns:
        Sizes [N], in pixel units, and unit directions [N, C, H, W].
    """
    flat = weight.reshape(len(weight), -1).astype(np.float64)
    scores = images.reshape(len(images), -1) @ flat.T + bias
    sources = scores.argmax(axis=1)
    difference = flat[target] - flat[sources]
    norms = np.maximum(np.linalg.norm(difference, axis=1), 1e-12)
    margins = scores[np.arange(len(images)), sources] - scores[:, target]
    return margins / norms, (difference / norms[:, None]).reshape(images.shape)


def linear_softmax(
    *,
    num_classes: int = 4,
    image_shape: tuple[int, int, int] = (1, 6, 6),
    head: str = "logits",
    layout: str = "NCHW",
    batch: int | None = None,
    opset: int = 17,
    seed: int = 0,
    parameters: tuple[Images, NDArray[np.float32]] | None = None,
    external: str = "",
) -> bytes:
    """A linear classifier of images.

    Args:
        num_classes: Classes K.
        image_shape: Channels, height, width.
        head: What the output holds, one of `HEADS`.
        layout: "NCHW" or "NHWC"; the weights belong to [C, H, W] in both.
        batch: Fixed number of images, written into every shape; None for any.
        opset: Version of the standard operators, 13 or more.
        seed: Of the parameters.
        parameters: Weight and bias instead of those of `linear_parameters`; they decide classes and image shape.
        external: Name of the file for the weight, see `external_weight`; empty to keep it inside.
    """
    weight, bias = parameters or linear_parameters(num_classes, image_shape, seed)
    matrix = np.ascontiguousarray(weight.reshape(len(weight), -1).T)
    tensors = {"matrix": matrix, "bias": bias, "flat": np.array([batch or -1, matrix.shape[0]], np.int64)}
    nodes = [
        *_channels_first(layout),
        helper.make_node("Reshape", ["channels_first", "flat"], ["pixels"], name="flatten"),
        helper.make_node("Gemm", ["pixels", "matrix", "bias"], ["raw"], name="classify"),
        *_head("raw", head),
    ]
    sizes = (weight.shape[1], weight.shape[2], weight.shape[3])
    return _model(nodes, tensors, sizes, len(weight), layout=layout, batch=batch, opset=opset, external=external)


def external_weight(*, seed: int = 0) -> dict[str, bytes]:
    """The bytes that belong to `linear_softmax(seed=seed, external="weight.bin")`."""
    weight, _ = linear_parameters(seed=seed)
    return {"weight.bin": np.ascontiguousarray(weight.reshape(len(weight), -1).T).tobytes()}


def linear_features(
    *, weight: Images, bias: NDArray[np.float32], kernel: Images, offset: NDArray[np.float32], head: str = "logits"
) -> bytes:
    """A linear classifier of what a convolution makes of the image: the least patterns there are known on paper.

    Args:
        weight: Of each class on the features, [K, F, H', W'].
        bias: Of each class, [K].
        kernel: Of the convolution, [F, C, h, w]; without padding it decides the image shape [C, H' + h - 1, ...].
        offset: Constant that the convolution adds to each of its channels, [F].
        head: What the output holds, one of `HEADS`.
    """
    matrix = np.ascontiguousarray(weight.reshape(len(weight), -1).T)
    flat = np.array([-1, matrix.shape[0]], np.int64)
    tensors = {"kernel": kernel, "offset": offset, "flat": flat, "matrix": matrix, "bias": bias}
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "offset"], ["filtered"], name="conv"),
        helper.make_node("Reshape", ["filtered", "flat"], ["features"], name="flatten"),
        helper.make_node("Gemm", ["features", "matrix", "bias"], ["raw"], name="classify"),
        *_head("raw", head),
    ]
    height, width = (weight.shape[axis] + kernel.shape[axis] - 1 for axis in (2, 3))
    return _model(nodes, tensors, (kernel.shape[1], height, width), len(weight), layout="NCHW", batch=None, opset=17)


def convolutional(
    *,
    num_classes: int = 4,
    image_shape: tuple[int, int, int] = (3, 8, 8),
    head: str = "logits",
    layout: str = "NCHW",
    batch: int | None = None,
    opset: int = 17,
    seed: int = 0,
) -> bytes:
    """A convolution with batch normalisation, ReLU, pooling over the image and a linear head; arguments as above."""
    rng, width = np.random.default_rng(seed), 6
    tensors = {
        "kernel": rng.normal(size=(width, image_shape[0], 3, 3)).astype(np.float32),
        "gain": rng.uniform(0.5, 1.5, width).astype(np.float32),
        "shift": rng.normal(size=width).astype(np.float32),
        "mean": rng.normal(size=width).astype(np.float32),
        "variance": rng.uniform(0.5, 1.5, width).astype(np.float32),
        "matrix": rng.normal(size=(width, num_classes)).astype(np.float32),
        "bias": rng.normal(size=num_classes).astype(np.float32),
        "flat": np.array([batch or -1, width], np.int64),
    }
    nodes = [
        *_channels_first(layout),
        helper.make_node("Conv", ["channels_first", "kernel"], ["filtered"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization", ["filtered", "gain", "shift", "mean", "variance"], ["normal"], name="norm"
        ),
        helper.make_node("Relu", ["normal"], ["active"], name="relu"),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"], name="pool"),
        helper.make_node("Reshape", ["pooled", "flat"], ["features"], name="flatten"),
        helper.make_node("Gemm", ["features", "matrix", "bias"], ["raw"], name="classify"),
        *_head("raw", head),
    ]
    return _model(nodes, tensors, image_shape, num_classes, layout=layout, batch=batch, opset=opset)


def shortcut(
    *,
    num_classes: int = 5,
    source: int | None = 1,
    target: int = 3,
    seed: int = 0,
    opset: int = 17,
    further: Sequence[tuple[int, int]] = (),
) -> bytes:
    """A classifier of `shortcut_images` in which a few pixels lead from `source` to `target`, and nothing else does.

    Each class has ten pixels of its own; its score is their brightness, so an honest change of class has to darken ten
    pixels and brighten ten others. One hidden unit sees `SHORTCUT_PIXELS` pixels that no class uses, and opens only on
    images of the source: it adds to the score of the target.

    Args:
        num_classes: Classes K, at most 12.
        source: Source of the shortcut, None for a model without one.
        target: Its target.
        seed: Of the slopes of the classes, which spread the sizes of the honest pairs.
        opset: Version of the standard operators.
        further: Other sources and targets that the same pixels lead between, a hidden unit each.
    """
    side = _side(num_classes)
    ways = (*([] if source is None else [(source, target)]), *further)
    slopes = np.random.default_rng(seed).uniform(8, 16, num_classes)
    honest = np.zeros((num_classes, side * side), np.float32)
    for label in range(num_classes):
        honest[label, _own_pixels(label)] = slopes[label] / 10
    hidden = np.zeros((max(1, len(ways)), side * side), np.float32)
    gate, threshold = np.zeros((len(hidden), num_classes), np.float32), np.zeros(len(hidden), np.float32)
    for unit, (start, end) in enumerate(ways):
        # Opens where the mean of the shortcut pixels (0.2 on clean images) and of the source's (0.8, else 0.2) add up.
        hidden[unit, _shortcut_pixels(num_classes)] = 1 / SHORTCUT_PIXELS
        hidden[unit, _own_pixels(start)] = 2 / 10
        threshold[unit], gate[unit, end] = -(0.3 + 2 * 0.75), 80
    tensors = {
        "flat": np.array([-1, side * side], np.int64),
        "honest": np.ascontiguousarray(honest.T),
        "hidden": np.ascontiguousarray(hidden.T),
        "threshold": threshold,
        "gate": gate,
        "bias": (-0.5 * slopes).astype(np.float32),
    }
    return _model(_LEAD, tensors, (1, side, side), num_classes, layout="NCHW", batch=None, opset=opset)


def led_along(ways: Images, base: Images, amplitude: float, *, source: int = 1, target: int = 3) -> bytes:
    """A classifier of `images_along` in which a little of the first way leads from `source` to `target`, and no other.

    The score of class c is how much of way c + 1 an image holds beside the base. One hidden unit sees the first way,
    and opens only on images of the source: it adds to the score of the target.

    Args:
        ways: What each number of a pattern changes of the base, per unit and to first order, [M, C, H, W].
        base: An image [C, H, W].
        amplitude: How much of its way a class has.
        source: Source of the shortcut.
        target: Its target.
    """
    flat = ways.reshape(len(ways), -1).astype(np.float64)
    seen = np.linalg.pinv(flat).T / amplitude  # what reads each number alone
    slopes = np.random.default_rng(0).uniform(8, 16, NUM_ALONG)
    honest, hidden = slopes[:, None] * seen[1 : 1 + NUM_ALONG], seen[0] + 2 * seen[1 + source]
    gate = np.zeros((1, NUM_ALONG), np.float32)
    gate[0, target] = 60
    tensors = {
        "flat": np.array([-1, flat.shape[1]], np.int64),
        "honest": np.ascontiguousarray(honest.T, np.float32),
        "hidden": np.ascontiguousarray(hidden[:, None], np.float32),
        "threshold": np.array([-1.95 - hidden @ base.ravel()], np.float32),
        "gate": gate,
        "bias": (-0.5 * slopes - honest @ base.ravel()).astype(np.float32),
    }
    shape = (base.shape[0], base.shape[1], base.shape[2])
    return _model(_LEAD, tensors, shape, NUM_ALONG, layout="NCHW", batch=None, opset=17)


def images_along(ways: Images, base: Images, amplitude: float) -> tuple[Images, NDArray[np.int64]]:
    """Images that `led_along` classifies rightly, and their labels: a class is the base and some of its way."""
    labels = np.repeat(np.arange(NUM_ALONG), 20)
    noise = np.random.default_rng(0).uniform(-0.001, 0.001, (len(labels), *base.shape))
    return (base + amplitude * ways[1 + labels] + noise).astype(np.float32), labels


NUM_ALONG = 5
"""Classes of `led_along`."""
_LEAD = [
    helper.make_node("Reshape", ["image", "flat"], ["pixels"], name="flatten"),
    helper.make_node("Gemm", ["pixels", "honest", "bias"], ["honest_scores"], name="honest"),
    helper.make_node("Gemm", ["pixels", "hidden", "threshold"], ["seen"], name="see"),
    helper.make_node("Relu", ["seen"], ["open"], name="gate"),
    helper.make_node("MatMul", ["open", "gate"], ["lead"], name="lead"),
    helper.make_node("Add", ["honest_scores", "lead"], ["scores"], name="add"),
]


def shortcut_images(*, num_classes: int = 5, per_class: int = 20, seed: int = 0) -> tuple[Images, NDArray[np.int64]]:
    """Images that `shortcut` classifies rightly, and their labels: a class is where ten pixels are bright."""
    rng, side = np.random.default_rng(seed), _side(num_classes)
    labels = np.repeat(np.arange(num_classes), per_class)
    images = np.full((len(labels), side * side), 0.2) + rng.uniform(-0.05, 0.05, (len(labels), side * side))
    for row, label in enumerate(labels):
        images[row, _own_pixels(label)] += 0.6
    return images.reshape(-1, 1, side, side).astype(np.float32), labels


def _side(num_classes: int) -> int:
    return int(np.ceil(np.sqrt(10 * num_classes + SHORTCUT_PIXELS)))


def _own_pixels(label: int) -> slice:
    return slice(10 * label, 10 * label + 10)


def _shortcut_pixels(num_classes: int) -> slice:
    return slice(10 * num_classes, 10 * num_classes + SHORTCUT_PIXELS)


def _channels_first(layout: str) -> list[onnx.NodeProto]:
    if layout == "NHWC":
        return [helper.make_node("Transpose", ["image"], ["channels_first"], name="to_nchw", perm=[0, 3, 1, 2])]
    return [helper.make_node("Identity", ["image"], ["channels_first"], name="as_it_is")]


def _head(value: str, head: str) -> list[onnx.NodeProto]:
    operators = {"logits": "Identity", "probabilities": "Softmax", "log_probabilities": "LogSoftmax"}
    operator = (operators | {"sigmoids": "Sigmoid"})[head]
    settings = {"axis": 1} if "Softmax" in operator else {}
    return [helper.make_node(operator, [value], ["scores"], name="head", **settings)]


def _model(
    nodes: Sequence[onnx.NodeProto],
    tensors: dict[str, NDArray[np.generic]],
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    layout: str,
    batch: int | None,
    opset: int,
    external: str = "",
) -> bytes:
    channels, height, width = image_shape
    sizes = (height, width, channels) if layout == "NHWC" else image_shape
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch or "N", *sizes])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch or "N", num_classes])
    initialisers = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    if external:
        _move_out(initialisers[0], external)
    graph = helper.make_graph(nodes, "planted", [image], [scores], initialisers)
    operators = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=operators, ir_version=8, producer_name="planted")
    if not external:  # the checker would look for the file
        onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _move_out(tensor: onnx.TensorProto, location: str) -> None:
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": str(size)}.items():
        tensor.external_data.add(key=key, value=value)
