"""What every operator file needs: reading a node's attributes and constants, and making a module of a function.

A converter binds attributes and constants to a plain function of tensors once, so that a call does nothing but
compute. It refuses a combination that it cannot honour with a `ValueError` that says what to do; whoever walks the
graph adds operator, opset and node to the message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import torch
from onnx import AttributeProto, TensorProto, numpy_helper
from torch import Tensor, nn

from backscan.converters.graph import constant_tensor
from backscan.converters.operators.registry import (
    ConverterFunction,
    OnnxGraph,
    OnnxMapping,
    OnnxNode,
    OperationConverterResult,
    register,
)

Function = Callable[..., Any]
"""Tensors of a node in, its output out: one tensor, or a tuple if the node has more than one output."""

Argument = int | Tensor | None
"""Where an argument of a function comes from: an input of the node by place, a prepared tensor, or nowhere."""

_INTEGERS_FOR_TORCH: dict[int, type[np.integer[Any]]] = {
    TensorProto.INT4: np.int8,
    TensorProto.UINT4: np.uint8,
    TensorProto.INT2: np.int8,
    TensorProto.UINT2: np.uint8,
    TensorProto.UINT16: np.int32,
    TensorProto.UINT32: np.int64,
}
"""Integer types that torch cannot compute with, and the smallest type that holds their values."""


class Operator(nn.Module):
    """A function of the node's tensors, with its attributes already bound."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: Tensor | None) -> Any:
        """Apply the function to the tensors of the node, in the order of its inputs."""
        return self.function(*tensors)


class PreparedOperator(nn.Module):
    """The same where some arguments are missing or were prepared at conversion; those are buffers."""

    def __init__(self, function: Function, arguments: Sequence[Argument]) -> None:
        super().__init__()
        self.function = function
        self.names = [None if isinstance(item, int) else f"prepared_{i}" for i, item in enumerate(arguments)]
        for name, item in zip(self.names, arguments, strict=True):
            if name is not None:
                self.register_buffer(name, item if isinstance(item, Tensor) else None)

    def forward(self, *tensors: Tensor) -> Any:
        """Apply the function to the tensors of the node, each at its place between the prepared ones."""
        live = iter(tensors)
        return self.function(*[next(live) if name is None else self._buffers[name] for name in self.names])


class Constant(nn.Module):
    """A value that no input changes; a buffer, so it follows the model to its device."""

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self) -> Tensor:
        """Give the value."""
        return self.value


def converted(
    node: OnnxNode, function: Function, arguments: Sequence[Argument] | None = None
) -> OperationConverterResult:
    """Wrap a function as the torch module of a node.

    Args:
        node: The node.
        function: Called with the arguments.
        arguments: For each the place of an input of the node, a tensor that was prepared at conversion, or None for a
            missing one; by default all inputs of the node.

    Returns:
        Module and mapping, as onnx2torch's protocol wants them.
    """
    wanted = [*range(len(node.input_values))] if arguments is None else arguments
    present = [None if isinstance(item, int) and not has_input(node, item) else item for item in wanted]
    names = tuple(node.input_values[item] for item in present if isinstance(item, int))
    plain = len(names) == len(present)
    module = Operator(function) if plain else PreparedOperator(function, present)
    return OperationConverterResult(module, OnnxMapping(inputs=names, outputs=node.output_values))


def converted_constant(node: OnnxNode, value: Tensor) -> OperationConverterResult:
    """Wrap a value that is known at conversion as the torch module of a node."""
    return OperationConverterResult(Constant(value), OnnxMapping(inputs=(), outputs=node.output_values))


def stateless(function: Function, **defaults: Any) -> ConverterFunction:
    """Make the converter of an operator that is a function of its tensors and of attributes of the same names.

    Args:
        function: Function of all the node's tensors, with the attributes as keyword arguments.
        defaults: Value of each attribute where the node does not give it.
    """

    def convert(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
        bound = {name: attribute(node, name, default) for name, default in defaults.items()}
        return converted(node, partial(function, **bound) if bound else function)

    return convert


def register_all(table: dict[str, tuple[tuple[int, ...], ConverterFunction]], *, domain: str = "") -> None:
    """Register a table of operators: name -> schema versions and their converter."""
    for operator, (versions, converter) in table.items():
        register(operator, versions=versions, domain=domain)(converter)


def attribute(node: OnnxNode, name: str, default: Any) -> Any:
    """Value of an attribute, or `default`; lists come as lists even when they are empty."""
    value = node.attributes.get(name, default)
    # onnx2torch passes an empty list through as the message it came in.
    return onnx.helper.get_attribute_value(value) if isinstance(value, AttributeProto) else value


def has_input(node: OnnxNode, index: int) -> bool:
    """Whether the node gives its optional input at a position."""
    return index < len(node.input_values) and node.input_values[index] != ""


def has_output(node: OnnxNode, index: int) -> bool:
    """Whether anything may read the node's output at a position."""
    return index < len(node.output_values) and node.output_values[index] != ""


def constant_proto(node: OnnxNode, graph: OnnxGraph, index: int) -> TensorProto | None:
    """The initialiser, or value of a Constant node, behind an input; None if it is absent or computed."""
    if not has_input(node, index):
        return None
    name = node.input_values[index]
    if name in graph.initializers:
        stored: TensorProto = graph.initializers[name].proto
        return stored
    producer = producer_of(node, graph, index)
    if producer is None or producer.operation_type != "Constant":
        return None
    return constant_value(producer)


def constant_value(node: OnnxNode) -> TensorProto:
    """The tensor that a Constant node holds, in whichever of its attributes.

    Raises:
        ValueError: it is a sparse tensor.
    """
    tensor = constant_tensor(node.proto)
    if tensor is None:
        found = ", ".join(item.name for item in node.proto.attribute)
        raise ValueError(f"expected a dense numeric constant, found '{found}': store the value as a tensor")
    return tensor


def constant(node: OnnxNode, graph: OnnxGraph, index: int) -> Tensor | None:
    """The value of an input that is known at conversion; None if it is absent or computed."""
    proto = constant_proto(node, graph, index)
    return None if proto is None else to_torch(proto)


def constant_ints(node: OnnxNode, graph: OnnxGraph, index: int) -> tuple[int, ...] | None:
    """An input that is a known list of integers; None if it is absent or computed."""
    value = constant(node, graph, index)
    return None if value is None else tuple(int(item) for item in value.reshape(-1).tolist())


def known_shape(node: OnnxNode, graph: OnnxGraph, index: int) -> tuple[int, ...] | None:
    """Shape of an input as the file states or implies it; None if any of it is open."""
    proto = constant_proto(node, graph, index)
    if proto is not None:
        return tuple(proto.dims)
    value = graph.value_info.get(node.input_values[index])
    if value is None or not value.type.tensor_type.HasField("shape"):
        return None
    sizes = [size.dim_value for size in value.type.tensor_type.shape.dim]
    return tuple(sizes) if all(sizes) else None


def argument(node: OnnxNode, graph: OnnxGraph, index: int) -> Argument:
    """An input as an argument: its value if that is known, its place if it is computed, None if it is absent."""
    value = constant(node, graph, index)
    return index if value is None and has_input(node, index) else value


def to_torch(proto: TensorProto) -> Tensor:
    """A tensor of the file as torch's; types that torch lacks become the smallest type that holds their values.

    Raises:
        ValueError: the tensor holds strings.
    """
    if proto.data_type == TensorProto.STRING:
        raise ValueError("expected numbers, found a tensor of strings: prune the graph to its numeric outputs")
    array = numpy_helper.to_array(proto)
    if proto.data_type in _INTEGERS_FOR_TORCH:
        array = array.astype(_INTEGERS_FOR_TORCH[proto.data_type])
    elif array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    elif array.dtype.kind == "V" or array.dtype.type.__module__ == "ml_dtypes":
        array = array.astype(np.float32)
    return torch.from_numpy(np.array(array))


def producer_of(node: OnnxNode, graph: OnnxGraph, index: int) -> OnnxNode | None:
    """The node whose output an input is; None for graph inputs and initialisers."""
    try:
        producer: OnnxNode = graph.value_as_node_output(node.input_values[index])[0]
    except KeyError:
        return None
    return producer
