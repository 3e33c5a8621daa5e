"""16-bit models are computed in 32 bits: torch's half arithmetic on a CPU is slow, and onnxruntime's own is 32-bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper

from backscan.converters.graph import subgraphs
from backscan.converters.signature.signature import HALF, ModelSignature


def widen(model: onnx.ModelProto, signature: ModelSignature) -> ModelSignature:
    """Make every 16-bit float of a model a float32, weights, casts and inputs, in place.

    Args:
        model: A whole model.
        signature: Its signature.

    Returns:
        The signature of the widened model.
    """
    for graph in _graphs(model.graph):
        for tensor in graph.initializer:
            _widen_tensor(tensor)
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type in HALF:
                value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        del graph.value_info[:]
        for node in graph.node:
            _widen_attributes(node)
    return replace(signature, dtype="float32") if signature.dtype == "float16" else signature


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from _graphs(inner)


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in HALF:
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), tensor.name))


def _widen_attributes(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            _widen_tensor(attribute.t)
        if attribute.name in {"to", "dtype", "output_dtype"} and attribute.i in HALF:
            attribute.i = onnx.TensorProto.FLOAT
