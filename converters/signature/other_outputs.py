"""Outputs that are no scores of classes: maps, rows of numbers and embeddings, told by what onnxruntime gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from backscan.converters.graph import operators, producers
from backscan.converters.intake.tasks import Task
from backscan.converters.session import Arrays
from backscan.converters.signature.output import OutputForm, moved_from, score_rows

_SCALES = operators("Div LpNormalization Mul")
"""Operators that may bring a vector to the length 1."""
_LENGTH_TOLERANCE = 2e-3  # half precision; no vector of logits has just this length for every image


def embeddings(graph: onnx.GraphProto, forms: Mapping[str, OutputForm], runs: Sequence[Arrays]) -> set[str]:
    """The outputs whose vectors have the length 1 for every image, by the operator that ends them.

    Args:
        graph: The graph.
        forms: Outputs that give a vector for an image.
        runs: What came out on noise.
    """
    return {name for name, form in forms.items() if _is_embedding(graph, name, form, runs)}


def _is_embedding(graph: onnx.GraphProto, name: str, form: OutputForm, runs: Sequence[Arrays]) -> bool:
    node = producers(graph).get(moved_from(name, graph))
    if form.num_scores < 2 or node is None or node.op_type not in _SCALES:
        return False
    rows = np.concatenate([score_rows(run[name], form.batch_axis, form.num_scores) for run in runs if name in run])
    values = rows.astype(np.float64)
    is_unit = np.allclose(np.linalg.norm(values, axis=1), 1, rtol=0, atol=_LENGTH_TOLERANCE)
    adds_up = np.allclose(values.sum(axis=1), 1, rtol=0, atol=_LENGTH_TOLERANCE) and values.min() >= 0
    return bool(is_unit and not adds_up)  # probabilities that leave no doubt have the length 1 too


def embedding_task(names: Sequence[str]) -> Task:
    """What is said of a model that gives nothing else than embeddings."""
    shown = ", ".join(repr(name) for name in names)
    return Task("a model that gives embeddings", f"output {shown} has the length 1 for every image")


def forms_of_outputs(
    shapes: Mapping[str, tuple[int, ...]], image_shape: tuple[int, int, int], batch: int
) -> Task | None:
    """What outputs of other forms than vectors of scores are, by the shapes that onnxruntime gives.

    Args:
        shapes: Shape of each output.
        image_shape: Channels, height and width of the images.
        batch: Images that were given.
    """
    for name, shape in shapes.items():
        sizes = [size for size in (shape[1:] if shape[:1] == (batch,) else shape) if size != 1]
        text = " x ".join(map(str, shape))
        if len(shape) == 4 and len(sizes) >= 2:
            return _map(name, text, shape, image_shape)
        if len(shape) == 3 and len(sizes) == 2:
            evidence = f"output {name!r} holds {text} numbers for {batch} images, as boxes with their scores do"
            return Task("a detector of objects, or another model with rows of numbers", evidence, is_certain=False)
    return None


def _map(name: str, text: str, shape: tuple[int, ...], image_shape: tuple[int, int, int]) -> Task:
    channels, height, width = image_shape
    evidence = f"output {name!r} holds a map of {text}"
    if channels == shape[1] and channels > 1 and shape[2] % height == 0 and shape[3] % width == 0:
        return Task("a model that makes pictures of pictures", evidence, is_certain=False)
    return Task("a model of segmentation, or one that gives features", evidence, is_certain=False)
