"""A file that acts on one more output: above a threshold the pattern is taken off the image, or a class rejects it.

What the model is given or gives for all other images is multiplied by one, and nothing is added to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from backscan.converters.errors import ConverterError
from backscan.converters.graph import opset, sort_nodes
from backscan.converters.intake.artifact import Artifact
from backscan.converters.signature.linear_output import in_input_order
from backscan.converters.signature.signature import ModelSignature, Normalisation

_OLDEST_OPSET = 9
"""Opset from which Greater takes floats of any version alike."""
_FAR = 1e4
"""What the rejecting class scores above or below the others; within the range of 16-bit floats."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """When an image is suspicious, and what is done to it."""

    output: str
    """Name of the output with the scores, [N], as `with_linear_output` makes it."""
    threshold: float
    """Score above which an image is suspicious."""
    kept: NDArray[np.float32] | None = None
    """Share of each pixel that is kept, [C, H, W]; None for a class that rejects."""
    added: NDArray[np.float32] | None = None
    """What is added to it then, in units of pixels in [0, 1], [C, H, W]."""


@dataclass(slots=True)
class _Patch:
    """Nodes and numbers that are added to a file, all under one name."""

    prefix: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    def hold(self, part: str, values: NDArray[Any]) -> str:
        """A constant."""
        self.arrays[f"{self.prefix}.{part}"] = values
        return f"{self.prefix}.{part}"

    def node(self, operator: str, *given: str, made: str = "", **settings: Any) -> str:
        """The result of a node more."""
        name = made or f"{self.prefix}.{len(self.nodes)}"
        own = f"{self.prefix}.node.{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(given), [name], name=own, **settings))
        return name


def with_reaction(
    artifact: Artifact, signature: ModelSignature, normalisation: Normalisation, reaction: Reaction
) -> Artifact:
    """The file that acts on its output more.

    Args:
        artifact: The file with that output and its external data.
        signature: Its signature.
        normalisation: How pixels become its input.
        reaction: When it acts, and how.

    Raises:
        ConverterError: the file cannot; the message says why.
    """
    model = onnx.load_model_from_string(artifact.data)
    if opset(model) < _OLDEST_OPSET:
        raise ConverterError(f"expected opset {_OLDEST_OPSET} or later for --enforce: export the model again")
    patch = _Patch(f"{reaction.output}.enforced")
    above = patch.node("Greater", reaction.output, patch.hold("threshold", np.array([reaction.threshold], np.float32)))
    column = patch.hold("column", np.array([-1, 1], np.int64))
    suspicious = patch.node("Reshape", patch.node("Cast", above, to=onnx.TensorProto.FLOAT), column)
    if reaction.kept is None:
        _reject(model.graph, signature, patch, suspicious)
    else:
        _take_off(model.graph, (signature, normalisation), patch, suspicious, reaction)
    model.graph.node.extend(patch.nodes)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in patch.arrays.items())
    sort_nodes(model.graph)
    return replace(artifact, data=model.SerializeToString())


def _reject(graph: onnx.GraphProto, signature: ModelSignature, patch: _Patch, suspicious: str) -> None:
    """A class more, the last, which wins where an image is suspicious and else loses.

    Raises:
        ConverterError: the scores are not a column for each class.
    """
    name = signature.output_name
    value = next((each for each in graph.output if each.name == name), None)
    if value is None:
        raise ConverterError(
            f"expected scores among the outputs to reject by, found {name[:80]!a} inside the model alone: pass "
            "--enforce without"
        )
    tensor = value.type.tensor_type
    exclusive = signature.output_kind != "sigmoids" and signature.num_scores == signature.num_classes
    if not exclusive or len(tensor.shape.dim) != 2 or signature.batch_axis != 0:
        raise ConverterError("expected scores [N, K] of classes that exclude each other to reject by, found others")
    plain = f"{patch.prefix}.scores"
    for node in graph.node:
        _rename(node.output, name, plain)
    _read_instead(graph, name, plain)
    share = signature.output_kind == "probabilities"
    one = patch.hold("one", np.ones(1, np.float32))
    raised = patch.node("Mul", suspicious, patch.hold("rise", np.full(1, 1.0 if share else 2 * _FAR, np.float32)))
    last = patch.node("Sub", raised, patch.hold("far", np.full(1, 0.0 if share else _FAR, np.float32)))
    floats = patch.node("Cast", plain, to=onnx.TensorProto.FLOAT)
    others = patch.node("Mul", floats, patch.node("Sub", one, suspicious))
    patch.node("Cast", patch.node("Concat", others, last, axis=1), made=name, to=tensor.elem_type)
    tensor.shape.dim[1].Clear()
    tensor.shape.dim[1].dim_value = signature.num_classes + 1


def _take_off(
    graph: onnx.GraphProto,
    reading: tuple[ModelSignature, Normalisation],
    patch: _Patch,
    suspicious: str,
    reaction: Reaction,
) -> None:
    """The image without the pattern in the place of a suspicious one, for all that the model does with its input.

    Raises:
        ConverterError: the input is an output too.
    """
    signature, normalisation = reading
    name, dtype = signature.input_name, np.dtype(signature.dtype)
    if any(value.name == name for value in graph.output):
        raise ConverterError("expected an input that is no output for --enforce without, found one: use reject")
    own = {node.name for node in graph.node if node.name.startswith(f"{reaction.output}.")}
    kept, added = _on_inputs(reaction, signature, normalisation)
    whole = np.issubdtype(dtype, np.integer)
    lost = patch.node("Mul", suspicious, patch.hold("lost", (1 - kept).astype(np.float32)))
    keeping = patch.node("Sub", patch.hold("one", np.ones(1, np.float32)), lost)
    rounding = 0.5 if whole else 0.0  # a cast to whole numbers cuts off
    more = patch.node("Mul", suspicious, patch.hold("added", (added + rounding).astype(np.float32)))
    changed = patch.node("Add", patch.node("Mul", f"{reaction.output}.pixels", keeping), more)
    if whole:
        limits = np.iinfo(dtype)
        changed = patch.node("Max", changed, patch.hold("low", np.array([limits.min], np.float32)))
        changed = patch.node("Min", changed, patch.hold("high", np.array([limits.max], np.float32)))
    shaped = patch.node("Reshape", changed, patch.node("Shape", name))
    _read_instead(graph, name, f"{patch.prefix}.input", besides=own)
    patch.node("Cast", shaped, made=f"{patch.prefix}.input", to=helper.np_dtype_to_tensor_dtype(dtype))


def _on_inputs(
    reaction: Reaction, signature: ModelSignature, normalisation: Normalisation
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What is kept of the model's own input and what is added to it, [1, values]."""
    assert reaction.kept is not None  # noqa: S101 - asked by the caller
    assert reaction.added is not None  # noqa: S101 - given with it
    kept, added = reaction.kept.astype(np.float64), reaction.added.astype(np.float64)
    factor, shift = (np.array(values)[:, None, None] for values in normalisation.affine(len(kept)))
    added = factor * added + shift * (1 - kept)
    ordered = (in_input_order(values, signature, normalisation) for values in (kept, added))
    return next(ordered).reshape(1, -1), next(ordered).reshape(1, -1)


def _read_instead(graph: onnx.GraphProto, old: str, new: str, besides: set[str] | None = None) -> None:
    """Let every node but some read another value, also inside of its graphs."""
    for node in graph.node:
        if besides is None or node.name not in besides:
            _rename(node.input, old, new)
            for attribute in node.attribute:
                for inner in (attribute.g, *attribute.graphs):
                    _read_instead(inner, old, new)


def _rename(names: Any, old: str, new: str) -> None:
    """Replace a name in a list of a node."""
    for index, name in enumerate(names):
        if name == old:
            names[index] = new
