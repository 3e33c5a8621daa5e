"""Rule 8: per-channel scaling and shifting after a convolution becomes part of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from backscan.converters.graph import attributes, constants, consumers, set_nodes
from backscan.converters.intake.node_names import OWN

_FOLDABLE = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE})
"""Weight types that are folded; in 16 bits the product would be rounded where the original's is not."""


@dataclass(frozen=True, slots=True)
class _Affine:
    """What nodes do to each channel: `scale * x + shift`, both [channels]."""

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]

    def then(self, after: _Affine) -> _Affine:
        """This map followed by another."""
        return _Affine(self.scale * after.scale, self.shift * after.scale + after.shift)


def fold_into_convolutions(graph: onnx.GraphProto) -> None:
    """Rule 8: fold `BatchNormalization`, `Mul`, `Add`, `Sub` and `Div` by constants into the `Conv` before them."""
    known = {name: tensor for name, tensor in constants(graph).items() if tensor.data_type in _FOLDABLE}
    readers, outputs = consumers(graph), {value.name for value in graph.output}
    absorbed = set[int]()
    for convolution in graph.node:
        if convolution.op_type != "Conv" or any(name not in known for name in convolution.input[1:] if name):
            continue
        channels = known[convolution.input[1]].dims[0]
        total, end = _Affine(np.ones(channels), np.zeros(channels)), convolution.output[0]
        while end not in outputs and len(readers.get(end, ())) == 1:
            node = readers[end][0]
            step = _affine(node, end, channels, known, rank=len(known[convolution.input[1]].dims))
            if step is None:
                break
            total, end = total.then(step), node.output[0]
            absorbed.add(id(node))
        if end != convolution.output[0]:
            _absorb(graph, convolution, total, known)
            convolution.output[0] = end
    set_nodes(graph, [node for node in graph.node if id(node) not in absorbed])


def _affine(
    node: onnx.NodeProto, value: str, channels: int, known: Mapping[str, onnx.TensorProto], *, rank: int
) -> _Affine | None:
    if node.op_type == "BatchNormalization":
        return _normalisation(node, known)
    if node.op_type not in {"Add", "Sub", "Mul", "Div"} or node.attribute or len(set(node.input)) < 2:
        return None  # before opset 7 attributes say how to broadcast
    first = node.input[0] == value
    constant = _per_channel(known.get(node.input[1 if first else 0]), channels, rank)
    if constant is None or (node.op_type == "Div" and not first):
        return None
    ones, zeros = np.ones(channels), np.zeros(channels)
    return {
        "Add": lambda: _Affine(ones, constant),
        "Sub": lambda: _Affine(ones, -constant) if first else _Affine(-ones, constant),
        "Mul": lambda: _Affine(constant, zeros),
        "Div": lambda: _Affine(1 / constant, zeros),
    }[node.op_type]()


def _normalisation(node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto]) -> _Affine | None:
    settings = attributes(node)
    plain = settings.get("training_mode", 0) == 0 and settings.get("spatial", 1) == 1 and not any(node.output[1:])
    if not plain or any(name not in known for name in node.input[1:5]):
        return None
    gain, bias, mean, variance = (_array(known[name]) for name in node.input[1:5])
    scale = gain / np.sqrt(variance + settings.get("epsilon", 1e-5))
    return _Affine(scale, bias - mean * scale)


def _per_channel(tensor: onnx.TensorProto | None, channels: int, rank: int) -> NDArray[np.float64] | None:
    """The constant as one number per channel, None if it varies along another axis than 1."""
    if tensor is None or len(tensor.dims) > rank:
        return None
    shape = [1] * (rank - len(tensor.dims)) + list(tensor.dims)
    if any(size != 1 for axis, size in enumerate(shape) if axis != 1) or shape[1] not in {1, channels}:
        return None
    return np.broadcast_to(_array(tensor).reshape(-1), channels)


def _absorb(
    graph: onnx.GraphProto, convolution: onnx.NodeProto, affine: _Affine, known: Mapping[str, onnx.TensorProto]
) -> None:
    old = known[convolution.input[1]]
    weight = _array(old)
    bias = _array(known[convolution.input[2]]) if any(convolution.input[2:]) else np.zeros(len(weight))
    dtype = np.dtype(np.float32 if old.data_type == onnx.TensorProto.FLOAT else np.float64)
    folded = {
        f"{convolution.output[0]}{OWN}folded_weight": weight * affine.scale.reshape(-1, *[1] * (weight.ndim - 1)),
        f"{convolution.output[0]}{OWN}folded_bias": bias * affine.scale + affine.shift,
    }
    graph.initializer.extend(numpy_helper.from_array(array.astype(dtype), name) for name, array in folded.items())
    del convolution.input[1:]
    convolution.input.extend(folded)


def _array(tensor: onnx.TensorProto) -> NDArray[np.float64]:
    return np.asarray(numpy_helper.to_array(tensor), np.float64)
