"""Values that the number of images in a call decides, where they meet what is computed from the images.

The copy and the probe look at a graph as it is for a few images; what is otherwise for one image, or for many, is
seen by neither. A size that shapes follow is ordinary; one that scores are added to, multiplied with or chosen by is
not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import inliner

from backscan.converters.errors import EngineError
from backscan.converters.graph import drop_unused, operators, producers, reached_values, reads, set_outputs, sort_nodes
from backscan.converters.intake.artifact import Artifact, parse
from backscan.converters.rewrites.folding import constants_to_initialisers
from backscan.converters.session import Arrays, noise, probe
from backscan.converters.signature.signature import ModelSignature

_SIZES = (1, 2, 3, 5, 64)
_MOST_NUMBERS = 1 << 20
"""Numbers of an input up to which the largest size is looked at."""
_TAKES_VALUES = operators(
    "Add And BitwiseAnd BitwiseOr BitwiseXor Div Equal Gemm Greater GreaterOrEqual If Less LessOrEqual MatMul Max Mean "
    "Min Mod Mul Or Pow PRelu Sub Sum Where Xor"
)
"""Operators that take all of their inputs as values and none as a shape, an axis or an index."""


def nodes_that_count_images(artifact: Artifact, signature: ModelSignature) -> tuple[str, ...]:
    """Names of nodes whose result depends on the number of images and acts on what is computed from them.

    Args:
        artifact: The model, external data included.
        signature: Its signature; a model of fixed batch has no such node.

    Returns:
        Names in the order of the graph; of a node without a name that of its result.
    """
    if signature.batch is not None:
        return ()
    model = _plain(artifact, signature)
    values = _operands(model.graph, signature.input_name)
    if not values:
        return ()
    most = _MOST_NUMBERS // int(np.prod(signature.input_shape))
    sizes = [size for size in _SIZES if size <= max(5, most)]
    try:
        runs = _runs(model, values, signature, sizes)
    except EngineError:  # not every size can be run; calls on images tell more
        return ()
    made_by = producers(model.graph)
    varying = [name for name in values if not _agree([run[name] for run in runs], sizes)]
    return tuple(dict.fromkeys(made_by[name].name or name for name in varying))


def _plain(artifact: Artifact, signature: ModelSignature) -> onnx.ModelProto:
    model = parse(artifact)
    if model.functions:
        model = inliner.inline_local_functions(model)
    model.ir_version = max(model.ir_version, 4)  # before, every initialiser had to be an input too
    sort_nodes(model.graph)
    set_outputs(model.graph, [signature.output_name])
    constants_to_initialisers(model.graph)
    drop_unused(model.graph)
    return model


def _operands(graph: onnx.GraphProto, image: str) -> list[str]:
    """Values computed from sizes alone that nodes on the way of the image take as values."""
    reached, made_by = reached_values(graph, [image]), producers(graph)
    readers = [n for n in graph.node if n.op_type in _TAKES_VALUES and reached.intersection(n.output)]
    read = dict.fromkeys(name for node in readers for name in sorted(reads(node)))
    return [name for name in read if name in made_by and name not in reached]


def _runs(
    model: onnx.ModelProto, values: Sequence[str], signature: ModelSignature, sizes: Sequence[int]
) -> list[Arrays]:
    dtype: np.dtype[Any] = np.dtype(signature.dtype)
    return probe(
        model, values, [{signature.input_name: noise(signature.model_shape(size), dtype, seed=size)} for size in sizes]
    )


def _agree(arrays: Sequence[NDArray[Any]], sizes: Sequence[int]) -> bool:
    """Whether a value is the same at every size, or the same for each image."""
    first = arrays[0]
    if all(array.shape == first.shape for array in arrays):
        return all(array.tobytes() == first.tobytes() for array in arrays)
    if any(array.ndim != first.ndim for array in arrays):
        return False
    axes = [axis for axis in range(first.ndim) if all(a.shape[axis] == s for a, s in zip(arrays, sizes, strict=True))]
    return any(_agree_along(arrays, axis) for axis in axes)


def _agree_along(arrays: Sequence[NDArray[Any]], axis: int) -> bool:
    """Whether the longest array begins as all others; numbers that count images up are indices, so only integers."""
    longest = np.moveaxis(arrays[-1], axis, 0)
    begin_alike = all(np.array_equal(np.moveaxis(array, axis, 0), longest[: array.shape[axis]]) for array in arrays)
    return begin_alike and (longest.dtype.kind == "i" or bool((longest == longest[:1]).all()))
