"""Bounds on what a model computes: nodes that hold some of its values, channel by channel, below constants.

A bounded value keeps its name, so that whoever reads it stays as it is; what was computed gets a name of its own. With
the constants at the largest values that some images reach, those images are answered as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from backscan.converters.errors import ConverterError
from backscan.converters.graph import attributes, consumers, operators, opset, reached_values, sort_nodes
from backscan.converters.intake.artifact import Artifact, digest, parse
from backscan.converters.ort_classifier import model_input
from backscan.converters.session import open_session, run_session
from backscan.converters.signature.additions import with_outputs
from backscan.converters.signature.readable import readable
from backscan.converters.signature.signature import ModelSignature, Normalisation

_OLDEST_OPSET = 8
"""Opset from which Min broadcasts."""
_AXES = {"Conv": 1, "ConvTranspose": 1, "Gemm": -1, "MatMul": -1}
"""Operators that make channels of the image by weights, and the axis that these have."""
_LINEAR = operators("Add BatchNormalization InstanceNormalization LayerNormalization Mul Sub Transpose")
_ACTIVATIONS = operators(
    "Celu Clip Elu Gelu HardSigmoid HardSwish LeakyRelu Mish PRelu Relu Selu Sigmoid Softplus Softsign Swish Tanh "
    "ThresholdedRelu"
)
_FLOATS = (np.float16, np.float32)
_PORTION = 32
"""Images a call: all values that are looked at are held at once."""


@dataclass(frozen=True, slots=True)
class Bounded:
    """A file with bounds."""

    artifact: Artifact
    """The file."""
    nodes: tuple[str, ...]
    """Names of the nodes that were added, as `parse` gives them: a Constant and a Min for each bounded value."""
    bounds: tuple[str, ...]
    """Names of the constants, stored in the value's own type: [1, C, 1, 1] for [N, C, H, W], elsewhere alike."""


def with_bounds(
    artifact: Artifact,
    signature: ModelSignature,
    normalisation: Normalisation,
    images: NDArray[np.float32],
    *,
    most: int,
) -> Bounded:
    """The file with bounds on the channels of its first layers, at the largest values that some images reach.

    A layer's bounded value is that of its activation, or without one what it gives, sums and normalisations included.
    The layer that gives the scores has no bounds.

    Args:
        artifact: The file with its external data.
        signature: Its signature.
        normalisation: How pixels become its input.
        images: Images [N, C, H, W] in [0, 1], N at least 1.
        most: Layers that get bounds, from the image on.

    Raises:
        ConverterError: the file cannot have bounds; the message says why.
    """
    named = parse(artifact)
    if opset(named) < _OLDEST_OPSET:
        raise ConverterError(
            f"expected opset {_OLDEST_OPSET} or later for bounds on channels, found {opset(named)}: "
            "export the model again with a later opset"
        )
    sort_nodes(named.graph)
    places = dict(islice(_places(named.graph, signature), most))
    highest = _highest(artifact, signature, normalisation, images, places) if places else {}
    if not highest:
        raise ConverterError(
            "expected a layer with channels of 16- or 32-bit floats before the one that gives the scores, to bound "
            "them, found none outside local functions: use another --method, export the model with its functions "
            "inlined, or repair it before it was quantised"
        )
    return _inserted(artifact, named, highest)


def _places(graph: onnx.GraphProto, signature: ModelSignature) -> Iterator[tuple[str, int]]:
    """Values that may be bounded and the axis of their channels, from the image on, each once."""
    reached, readers = reached_values(graph, [signature.input_name]), consumers(graph)
    ends, told = {value.name for value in graph.output}, set[str]()
    for node in graph.node:
        if not _is_layer(node, reached):
            continue
        value, axis = _followed(node, readers, ends)
        behind = reached_values(graph, [value])
        if value not in told | ends and any(_is_layer(later, behind) for later in graph.node):
            told.add(value)
            yield value, axis


def _is_layer(node: onnx.NodeProto, reached: set[str]) -> bool:
    """Whether a node weighs what depends on the image by what does not."""
    return node.op_type in _AXES and node.input[0] in reached and node.input[1] not in reached


def _followed(node: onnx.NodeProto, readers: dict[str, list[onnx.NodeProto]], ends: set[str]) -> tuple[str, int]:
    """The value of a layer's activation, or the last before something else reads it, and the axis of its channels."""
    value, axis = node.output[0], _AXES[node.op_type]
    while value not in ends and len(readers.get(value, [])) == 1:
        (reader,) = readers[value]
        if reader.op_type not in _LINEAR | _ACTIVATIONS:
            break
        if reader.op_type == "Transpose":
            order = attributes(reader).get("perm")
            if order is None:
                break
            axis = list(order).index(axis % len(order))
        value = reader.output[0]
        if reader.op_type in _ACTIVATIONS:
            break
    return value, axis


def _highest(
    artifact: Artifact,
    signature: ModelSignature,
    normalisation: Normalisation,
    images: NDArray[np.float32],
    places: dict[str, int],
) -> dict[str, NDArray[Any]]:
    """Largest finite number in each channel of some values, in a shape that broadcasts to them; of floats alone."""
    asked = readable(with_outputs(artifact, list(places)), signature)
    session, size = open_session(asked.data, asked.external), signature.batch or _PORTION
    inputs, found = model_input(images, signature, normalisation), dict[str, NDArray[Any]]()
    for start in range(0, len(inputs), size):
        part = inputs[start : start + size]
        short = (signature.batch or 0) - len(part)  # full batches, the last image repeated: that raises no maximum
        part = np.concatenate([part, np.repeat(part[-1:], max(0, short), axis=0)])
        for name, array in run_session(session, {signature.input_name: part}, list(places)).items():
            if array.dtype not in _FLOATS or array.ndim < 2:
                continue
            axis = places[name] % array.ndim
            largest = array.max(axis=tuple(other for other in range(array.ndim) if other != axis), keepdims=True)
            found[name] = np.maximum(found.get(name, largest), largest)
    return {name: array for name, array in found.items() if array.size > 1 and np.isfinite(array).all()}


def _inserted(artifact: Artifact, named: onnx.ModelProto, highest: dict[str, NDArray[Any]]) -> Bounded:
    """The file with a Constant and a Min for each value."""
    model = onnx.load_model_from_string(artifact.data)
    taken = _names(named)
    nodes, bounds = list[str](), list[str]()
    for value, array in highest.items():
        free, bound, held = (_unused(f"{value}.{part}", taken) for part in ("free", "bound", "bounded"))
        place = next(index for index, node in enumerate(model.graph.node) if value in node.output)
        maker = model.graph.node[place]
        maker.output[list(maker.output).index(value)] = free
        constant = helper.make_node("Constant", [], [bound], name=bound, value=numpy_helper.from_array(array, bound))
        # Right behind the node that computes it: a file is in the order in which it is computed.
        model.graph.node.insert(place + 1, constant)
        model.graph.node.insert(place + 2, helper.make_node("Min", [free, bound], [value], name=held))
        nodes += [bound, held]
        bounds.append(bound)
    data = model.SerializeToString()
    made = replace(artifact, data=data, sha256=digest(data, artifact.external))
    return Bounded(made, tuple(nodes), tuple(bounds))


def _names(model: onnx.ModelProto) -> set[str]:
    """Names of all values and nodes of a graph, and of those of graphs inside it."""
    graphs, names = [model.graph], set[str]()
    while graphs:
        graph = graphs.pop()
        named = (*graph.input, *graph.output, *graph.value_info, *graph.initializer, *graph.node)
        names |= {each.name for each in named} | {each.values.name for each in graph.sparse_initializer}
        for node in graph.node:
            names |= {*node.input, *node.output}
            for attribute in node.attribute:
                graphs += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
    return names


def _unused(wanted: str, taken: set[str]) -> str:
    """The name, or the name with a number where it is taken; it is taken from now on."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}.{number}"
    taken.add(name)
    return name
