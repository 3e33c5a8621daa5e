"""Models of one node, run in onnxruntime (the oracle) and through our converters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from backscan.converters.torch_import.builder import GraphBuilder

Array = npt.NDArray[Any]
DOMAINS = {"com.microsoft": 1, "ai.onnx.ml": 3}


def model_of(
    operator: str,
    inputs: Sequence[str],
    live: Mapping[str, Array],
    constants: Mapping[str, Array] | None = None,
    *,
    opset: int = 21,
    domain: str = "",
    outputs: int = 1,
    node_opset: int | None = None,
    **attributes: Any,
) -> ModelProto:
    """A model of one node.

    Args:
        operator: Its operator.
        inputs: Names of its inputs, empty for absent ones.
        live: Inputs that the caller feeds; their values give type and shape.
        constants: Inputs that are initialisers.
        opset: Opset of ONNX's own domain.
        domain: Domain of the operator.
        outputs: Number of outputs, named `out_0` and so on.
        node_opset: The attribute `opset` of the node, for the operator that has one.
        attributes: Attributes of the node.
    """
    names = [f"out_{index}" for index in range(outputs)]
    attributes |= {} if node_opset is None else {"opset": node_opset}
    node = helper.make_node(operator, list(inputs), names, domain=domain, **attributes)
    return model_from([node], live, constants or {}, names, opset=opset)


def model_from(
    nodes: Sequence[onnx.NodeProto],
    live: Mapping[str, Array],
    constants: Mapping[str, Array],
    outputs: Sequence[str],
    *,
    opset: int = 21,
) -> ModelProto:
    """A model of several nodes."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, type_of(value), value.shape) for name, value in live.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    domains = {node.domain for node in nodes if node.domain}
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, DOMAINS[name]) for name in sorted(domains))]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def type_of(value: Array) -> int:
    """The ONNX element type of an array."""
    return int(helper.np_dtype_to_tensor_dtype(value.dtype)) if value.size >= 0 else TensorProto.UNDEFINED


def in_onnxruntime(model: ModelProto, live: Mapping[str, Array]) -> list[Array]:
    """Outputs of a model in onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[Array] = session.run(None, dict(live))
    return outputs


def imported(model: ModelProto) -> nn.Module:
    """A model as our torch module."""
    return GraphBuilder(onnx.shape_inference.infer_shapes(model)).build()


def in_torch(model: ModelProto, live: Mapping[str, Array]) -> list[Tensor]:
    """Outputs of a model through our converters."""
    with torch.no_grad():
        outputs = imported(model)(*[torch.from_numpy(value) for value in live.values()])
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def assert_same(model: ModelProto, live: Mapping[str, Array], *, rtol: float = 1e-4, atol: float = 1e-6) -> None:
    """Demand that our outputs are those of onnxruntime."""
    for mine, theirs in zip(in_torch(model, live), in_onnxruntime(model, live), strict=True):
        assert tuple(mine.shape) == theirs.shape
        np.testing.assert_allclose(mine.double().numpy(), theirs.astype(np.float64), rtol=rtol, atol=atol)
