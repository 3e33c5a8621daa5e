"""Models made of `planted` ones whose answers depend on the call: on its size, or on its other images."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import compose, helper, numpy_helper


def changed(model: bytes, *nodes: onnx.NodeProto, **tensors: np.ndarray) -> bytes:
    """A planted model with nodes that make `answer` of its `scores` and `image`; tensors are what they read."""
    proto = onnx.load_from_string(model)
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in tensors.items())
    proto.graph.output[0].name = "answer"
    return proto.SerializeToString()


def alone_or_not(alone: bytes, together: bytes, *, size: int = 1) -> bytes:
    """The one model where a call has `size` images, else the other one."""
    first, second = (onnx.load_from_string(model) for model in (alone, together))
    compose.add_prefix(second, "other_", inplace=True)
    for node in second.graph.node:
        node.input[:] = ["image" if name == "other_image" else name for name in node.input]
    first.graph.node.extend(second.graph.node)
    first.graph.initializer.extend(second.graph.initializer)
    return changed(
        first.SerializeToString(),
        *counting(size),
        helper.make_node("Where", ["is", "scores", "other_scores"], ["answer"], name="choose"),
        first=np.array(0),
        size=np.array(size),
    )


def counting(size: int) -> list[onnx.NodeProto]:
    """Nodes that compare the number of images with the constant `size`, at place `first` of the shape."""
    assert size > 0
    return [
        helper.make_node("Shape", ["image"], ["shape"], name="look"),
        helper.make_node("Gather", ["shape", "first"], ["count"], name="count", axis=0),
        helper.make_node("Equal", ["count", "size"], ["is"], name="compare"),
    ]
