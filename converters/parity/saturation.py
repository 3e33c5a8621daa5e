"""Whether this processor's products of 8-bit numbers are exact: without VNNI some overflow their 16-bit sums."""

from __future__ import annotations

from functools import cache

import numpy as np
from onnx import TensorProto, helper

from backscan.converters.session import open_session, run_session

_UNSIGNED, _SIGNED = 255, 127
_LENGTH = 4


@cache
def saturates() -> bool:
    """Whether onnxruntime's products of unsigned and signed 8-bit numbers lose sums beyond 16 bits here.

    x86 processors without VNNI add two products in 16 bits (`vpmaddubsw`). onnxruntime avoids that only for weights
    that it may rewrite, see `open_session`; this asks it for a product of two inputs, which it may not.

    Raises:
        EngineError: onnxruntime fails.
    """
    shapes = {"left": (1, _LENGTH), "right": (_LENGTH, 1)}
    types = {"left": TensorProto.UINT8, "right": TensorProto.INT8}
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", list(shapes), ["product"])],
        "largest_product",
        [helper.make_tensor_value_info(name, types[name], shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info("product", TensorProto.INT32, (1, 1))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=7)
    feeds = {"left": np.full((1, _LENGTH), _UNSIGNED, np.uint8), "right": np.full((_LENGTH, 1), _SIGNED, np.int8)}
    product = run_session(open_session(model.SerializeToString(), threads=1), feeds)["product"]
    return int(product.item()) != _LENGTH * _UNSIGNED * _SIGNED
