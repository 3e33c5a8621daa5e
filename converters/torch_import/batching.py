"""Models that insist on a number of images: freed where that is provably right, else called group by group."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor, nn

from backscan.converters.errors import EngineError
from backscan.converters.graph import attributes, constants, reached_values, set_nodes
from backscan.converters.intake.node_names import OWN
from backscan.converters.session import noise, open_session, run_session
from backscan.converters.signature.signature import ModelSignature

_TOLERANCE = 1e-4  # of the freed model against one call after another, relative to the largest score
_GROUPS = 3


class Rows(nn.Module):
    """A network of any batch size, its output brought to [N, num_scores]."""

    def __init__(self, network: nn.Module, signature: ModelSignature) -> None:
        super().__init__()
        self.network = network
        self.batch_axis = signature.batch_axis
        self.num_scores = signature.num_scores

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores [N, num_scores] for model inputs [N, ...]."""
        scores: Tensor = self.network(inputs)
        return scores.movedim(self.batch_axis, 0).reshape(-1, self.num_scores)


class Groups(nn.Module):
    """A network that takes exactly n images, called for all groups of n at once, or one after another."""

    def __init__(self, network: nn.Module, signature: ModelSignature, *, at_once: bool) -> None:
        super().__init__()
        self.rows = Rows(network, signature)
        self.group_size = signature.batch or 1
        self.at_once = at_once

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores [N, num_scores] for model inputs [N, ...]; the last group is filled with its last image."""
        missing = -len(inputs) % self.group_size
        padded = torch.cat([inputs, inputs[-1:].expand(missing, *inputs.shape[1:])]) if missing else inputs
        groups = padded.reshape(-1, self.group_size, *inputs.shape[1:])
        if self.at_once:
            scores = torch.func.vmap(self.rows)(groups)
        else:
            scores = torch.stack([self.rows(group) for group in groups])
        rows: Tensor = scores.flatten(0, 1)[: len(inputs)]
        return rows


def group_images(network: nn.Module, signature: ModelSignature) -> Groups:
    """A network of fixed batch for any number of images: vectorised over groups if torch can do that rightly."""
    at_once, apart = (Groups(network, signature, at_once=flag) for flag in (True, False))
    images = noise(signature.model_shape(_GROUPS * (signature.batch or 1)), np.dtype(signature.dtype), seed=0)
    inputs = torch.from_numpy(images).to(torch.float64 if signature.dtype == "float64" else torch.float32)
    try:
        agrees = torch.allclose(at_once(inputs), apart(inputs), rtol=_TOLERANCE, atol=_TOLERANCE)
    except Exception:  # a module that looks at values cannot be vectorised; torch has many ways to say so
        agrees = False
    return at_once if agrees else apart


def free_batch(plain: onnx.ModelProto, signature: ModelSignature) -> onnx.ModelProto | None:
    """Rewrite a model of fixed batch so that it takes any number of images.

    The leading size of each `Reshape` target becomes -1, and constants that are joined to the images' values are
    repeated for each image. That this is right is not assumed but shown: onnxruntime must give for a few images
    together what it gives for one call after another.

    Args:
        plain: The normalised model; it is left as it is.
        signature: Its signature, with a fixed batch.

    Returns:
        The rewritten model, None if it cannot be freed this way.
    """
    freed = deepcopy(plain)
    graph = freed.graph
    del graph.value_info[:]
    for value in graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    reached = reached_values(graph, [signature.input_name])
    _free_reshapes(graph, reached)
    _repeat_joined_constants(graph, signature, reached)
    return freed if _agrees(freed, plain, signature) else None


def _free_reshapes(graph: onnx.GraphProto, reached: set[str]) -> None:
    known = constants(graph)
    reshapes = [n for n in graph.node if n.op_type == "Reshape" and n.output[0] in reached and n.input[1] in known]
    for index, node in enumerate(reshapes):
        target = numpy_helper.to_array(known[node.input[1]]).copy()
        if target.size and target[0] > 0 and -1 not in target:
            target[0] = -1
        elif target.size and target[0] > 0:
            target[0] = 0  # another size is inferred already, so the batch is copied from the input
        name = f"{node.output[0]}{OWN}free_target_{index}"
        graph.initializer.append(numpy_helper.from_array(target, name))
        node.input[1] = name


def _repeat_joined_constants(graph: onnx.GraphProto, signature: ModelSignature, reached: set[str]) -> None:
    """`Concat([token, patches])`: a token that stands in the file once for each image is expanded at every call."""
    known, nodes = constants(graph), list[onnx.NodeProto]()
    for node in graph.node:
        beside = next((name for name in node.input if name in reached), None)
        if node.op_type == "Concat" and beside is not None and attributes(node)["axis"] != 0:
            for index, name in enumerate(node.input):
                row = _single_row(known.get(name), signature.batch)
                if row is not None:
                    expanded = f"{node.output[0]}.repeated_{index}"
                    nodes += _expanded(graph, row, beside, expanded)
                    node.input[index] = expanded
        nodes.append(node)
    set_nodes(graph, nodes)


def _single_row(tensor: onnx.TensorProto | None, batch: int | None) -> NDArray[Any] | None:
    """What the tensor holds for one image, None if it does not hold the same for each."""
    if tensor is None or not tensor.dims or tensor.dims[0] != batch:
        return None
    array = numpy_helper.to_array(tensor)
    return array[:1] if (array == array[:1]).all() else None


def _expanded(graph: onnx.GraphProto, row: NDArray[Any], beside: str, name: str) -> list[onnx.NodeProto]:
    """Nodes that repeat `row` along the first axis as often as the value `beside` is long."""
    arrays = {"row": row, "first": np.array([0], np.int64), "rest": np.array(row.shape[1:], np.int64)}
    own = f"{name}{OWN}"
    graph.initializer.extend(numpy_helper.from_array(array, f"{own}{part}") for part, array in arrays.items())
    return [
        helper.make_node("Shape", [beside], [f"{own}shape"], name=f"{name}.shape"),
        helper.make_node("Gather", [f"{own}shape", f"{own}first"], [f"{own}batch"], name=f"{name}.batch", axis=0),
        helper.make_node("Concat", [f"{own}batch", f"{own}rest"], [f"{own}target"], name=f"{name}.target", axis=0),
        helper.make_node("Expand", [f"{own}row", f"{own}target"], [name], name=f"{name}.expand"),
    ]


def _agrees(freed: onnx.ModelProto, plain: onnx.ModelProto, signature: ModelSignature) -> bool:
    """Whether several groups at once give what one group after another gives."""
    size = signature.batch or 1
    images = noise(signature.model_shape(_GROUPS * size), np.dtype(signature.dtype), seed=0)
    try:
        (together,) = _scores(freed, [images], signature)
        apart = np.concatenate(_scores(plain, np.split(images, _GROUPS), signature), axis=signature.batch_axis)
    except EngineError:  # a size deeper inside still stands for the batch
        return False
    return together.shape == apart.shape and bool(np.abs(together - apart).max() <= _TOLERANCE * np.abs(apart).max())


def _scores(model: onnx.ModelProto, calls: Sequence[NDArray[Any]], signature: ModelSignature) -> list[NDArray[Any]]:
    session = open_session(model.SerializeToString())
    output = model.graph.output[-1].name
    return [run_session(session, {signature.input_name: images})[output] for images in calls]
