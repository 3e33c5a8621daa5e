"""A file with one more output: a linear function of the image, held to [0, 1], beside what it gives already.

A second linear function, of a value that the graph computes, may stand beside it: then the larger of the two counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from backscan.converters.errors import ConverterError
from backscan.converters.graph import opset
from backscan.converters.intake.artifact import Artifact, parse
from backscan.converters.signature.layout import is_flat
from backscan.converters.signature.readable import lacks_batch_axis
from backscan.converters.signature.signature import ModelSignature, Normalisation

_OLDEST_OPSET = 8
"""Opset from which Min broadcasts."""


@dataclass(frozen=True, slots=True)
class OfValue:
    """A linear function of a value inside the graph."""

    name: str
    """Name of the value, batch first."""
    weights: NDArray[np.float32]
    """A weight for each of its numbers of one image, in their order, [F]."""
    offset: float
    """What is added to their product."""
    centre: NDArray[np.float32] | None = None
    """What is taken off the value first, [F]; None is nothing."""


def with_linear_output(
    artifact: Artifact,
    signature: ModelSignature,
    normalisation: Normalisation,
    function: tuple[NDArray[np.float32], float],
    name: str,
    *,
    beside: OfValue | None = None,
) -> Artifact:
    """The file with an output more; all that it has stays as it is.

    Args:
        artifact: The file with its external data.
        signature: Its signature.
        normalisation: How pixels become its input.
        function: Weights [C, H, W] on pixels in [0, 1], and what is added to their product with an image.
        name: Name of the output, [N] float32 in [0, 1].
        beside: A function of a value in the graph; the larger of the two is the output.

    Raises:
        ConverterError: the file cannot have such an output; the message says why.
    """
    named = parse(artifact, fold_external=False)
    _refuse(named, signature, normalisation, name)
    if beside is not None and not any(beside.name in node.output for node in named.graph.node):
        raise ConverterError(
            f"expected a value {beside.name[:80]!a} that the model computes, found none: export the model again"
        )
    weights, offset = _on_inputs(signature, normalisation, function)
    arrays: dict[str, NDArray[Any]] = {"one": np.array(1, np.float32), "rows": np.array([-1], np.int64)}
    steps = [*_product("", signature.input_name, (weights.reshape(-1), offset), signature.batch, arrays)]
    highest = "sum"
    if beside is not None:
        linear = beside.weights.astype(np.float64), beside.offset
        steps += _product("features.", beside.name, linear, signature.batch, arrays, centre=beside.centre)
        steps.append(("Max", ["sum", "features.sum"], "highest", {}))
        highest = "highest"
    steps += [("Relu", [highest], "positive", {}), ("Min", ["positive", "one"], "column", {})]
    model = onnx.load_model_from_string(artifact.data)
    own = {part: f"{name}.{part}" for part in (*arrays, *(made for _, _, made, _ in steps))}
    for operator, given, made, settings in steps:
        read = [own.get(part, part) for part in given]
        model.graph.node.append(helper.make_node(operator, read, [own[made]], name=own[made], **settings))
    model.graph.node.append(helper.make_node("Reshape", [own["column"], own["rows"]], [name], name=name))
    model.graph.initializer.extend(numpy_helper.from_array(array, own[part]) for part, array in arrays.items())
    model.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [signature.batch or "N"]))
    return replace(artifact, data=model.SerializeToString())


_Step = tuple[str, list[str], str, dict[str, Any]]
"""Operator, what it reads, what it makes and its attributes; own values by their part of the name."""


def _product(
    prefix: str,
    value: str,
    linear: tuple[NDArray[np.float64], float],
    batch: int | None,
    arrays: dict[str, NDArray[Any]],
    *,
    centre: NDArray[np.float32] | None = None,
) -> list[_Step]:
    """The steps from a value to the function of it, [N, 1]; their constants are put beside the others."""
    weights, offset = linear
    arrays[f"{prefix}weights"] = weights.reshape(-1, 1).astype(np.float32)
    arrays[f"{prefix}offset"] = np.array(offset, np.float32)
    arrays[f"{prefix}flat"] = np.array([batch or -1, weights.size], np.int64)
    centred: list[_Step] = []
    if centre is not None:
        arrays[f"{prefix}centre"] = centre.reshape(1, -1)
        centred = [("Sub", [f"{prefix}pixels", f"{prefix}centre"], f"{prefix}centred", {})]
    return [
        ("Cast", [value], f"{prefix}input", {"to": onnx.TensorProto.FLOAT}),
        ("Reshape", [f"{prefix}input", f"{prefix}flat"], f"{prefix}pixels", {}),
        *centred,
        ("MatMul", [f"{prefix}{'centred' if centred else 'pixels'}", f"{prefix}weights"], f"{prefix}product", {}),
        ("Add", [f"{prefix}product", f"{prefix}offset"], f"{prefix}sum", {}),
    ]


def _refuse(model: onnx.ModelProto, signature: ModelSignature, normalisation: Normalisation, name: str) -> None:
    """Refuse files that cannot have the output.

    Raises:
        ConverterError: why.
    """
    if normalisation.standardise:
        raise ConverterError("expected images that are not standardised one by one for an output more, found such ones")
    if opset(model) < _OLDEST_OPSET:
        raise ConverterError(f"expected opset {_OLDEST_OPSET} or later, found {opset(model)}: export the model again")
    if lacks_batch_axis(model, signature):
        raise ConverterError("expected an input with a batch axis for an output more, found none: export it with one")
    values = {value.name for value in (*model.graph.input, *model.graph.output)}
    values |= {given for node in model.graph.node for given in node.output}
    values |= {tensor.name for tensor in model.graph.initializer}
    if any(value == name or value.startswith(f"{name}.") for value in values):
        raise ConverterError(f"expected no value {name!r} in the model, found one: it has such an output already")


def _on_inputs(
    signature: ModelSignature, normalisation: Normalisation, function: tuple[NDArray[np.float32], float]
) -> tuple[NDArray[np.float64], float]:
    """The function of pixels as one of the model's own input, its weights in the order of that."""
    weights, offset = function[0].astype(np.float64), function[1]
    factor, shift = (np.array(values)[:, None, None] for values in normalisation.affine(len(weights)))
    weights = weights / factor
    offset -= float((weights * shift).sum())
    return in_input_order(weights, signature, normalisation), offset


def in_input_order(
    values: NDArray[np.float64], signature: ModelSignature, normalisation: Normalisation
) -> NDArray[np.float64]:
    """Numbers of pixels [C, H, W], RGB, in the order of the model's own input."""
    ordered = values[::-1] if normalisation.channel_order == "bgr" else values
    last = signature.layout in {"NHWC", "NHW"} or (is_flat(signature.layout) and normalisation.pixel_order == "hwc")
    return np.ascontiguousarray(ordered.transpose(1, 2, 0) if last else ordered)
