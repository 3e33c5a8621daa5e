"""What is written into the copy through which a file is called: more outputs, a batch axis.

Weights and nodes stay as they are, so what is computed is what the file computes; its digest stays the file's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from backscan.converters.graph import dimensions, free_inputs, rename_reads, set_nodes
from backscan.converters.intake.artifact import Artifact, parse

_LEAST_SIDE = 4  # pixels; below, two axes are rows of numbers rather than an image


def with_outputs(artifact: Artifact, names: Sequence[str]) -> Artifact:
    """The artifact with more of its values as outputs.

    Args:
        artifact: The model.
        names: Values of its graph; those that are outputs already are left as they are.
    """
    model = parse(artifact, fold_external=False)
    present = {value.name for value in model.graph.output}
    added = [name for name in dict.fromkeys(names) if name not in present]
    if not added:
        return artifact
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in added)
    return replace(artifact, data=model.SerializeToString())


def with_batch_axis(artifact: Artifact) -> Artifact | None:
    """The artifact with a batch axis of one image before the sizes of its input.

    Args:
        artifact: The model.

    Returns:
        The rewritten model; None if its input is none, or has not the sizes of one image.
    """
    model = parse(artifact, fold_external=False)
    values = free_inputs(model.graph)
    sizes = dimensions(values[0]) if len(values) == 1 else None
    if sizes is None or None in sizes or len(sizes) not in {1, 2, 3}:
        return None
    fixed = [size for size in sizes if size is not None]
    if len(fixed) > 1 and sorted(fixed)[-2] < _LEAST_SIDE:
        return None
    _add_batch_axis(model.graph, values[0].name, fixed)
    return replace(artifact, data=model.SerializeToString())


def _add_batch_axis(graph: onnx.GraphProto, image: str, sizes: Sequence[int]) -> None:
    alone, target = f"{image}.alone", f"{image}.alone.shape"
    rename_reads(graph, {image: alone})
    graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), target))
    set_nodes(graph, [helper.make_node("Reshape", [image, target], [alone], name=alone), *graph.node])
    (value,) = (value for value in graph.input if value.name == image)
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for size in (1, *sizes):
        shape.dim.add(dim_value=size)
    del graph.value_info[:]
