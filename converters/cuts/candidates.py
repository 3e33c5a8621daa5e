"""Where a classifier can be cut in two: the values that everything about the image passes through."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from backscan.converters.errors import border
from backscan.converters.graph import needed_nodes, producers, reached_values, reads, sort_nodes
from backscan.converters.intake.artifact import Artifact, parse
from backscan.converters.rewrites.setting import Setting
from backscan.converters.session import probe
from backscan.converters.signature.signature import ModelSignature

_CONVOLUTIONS = frozenset({"Conv", "QLinearConv", "ConvInteger", "FusedConv"})


@dataclass(frozen=True, slots=True)
class CutCandidate:
    """A value at which the model can be cut into a front and a back."""

    name: str
    """Name of the value in the artifact."""
    operator: str
    """Operator that computes it."""
    shape: tuple[int, ...]
    """Its shape for one image, without the batch axis."""
    dtype: str
    """numpy name of its type."""
    is_first_convolution: bool
    """Whether the first convolution computes it."""


@border("listing the tensors of the model")
def cut_candidates(artifact: Artifact, signature: ModelSignature) -> tuple[CutCandidate, ...]:
    """The values that every path from the image to the output passes, floating-point and batch first.

    Args:
        artifact: The model, external data included.
        signature: Its signature.

    Returns:
        Candidates from the image towards the output, the output itself left out.

    Raises:
        ArtifactError: the model cannot be parsed.
        EngineError: onnxruntime cannot run it.
    """
    model = parse(artifact)
    sort_nodes(model.graph)
    names = [name for name in _dominating(model.graph, signature) if name != signature.output_name]
    if not names:
        return ()
    setting = Setting(signature)
    runs = probe(model, names, setting.feeds())
    made_by = producers(model.graph)
    first = next((node.output[0] for node in model.graph.node if node.op_type in _CONVOLUTIONS), "")
    return tuple(
        CutCandidate(name, made_by[name].op_type, runs[0][name].shape[1:], runs[0][name].dtype.name, name == first)
        for name in names
        if _has_batch_first([run[name] for run in runs], setting.batches)
    )


def _has_batch_first(arrays: list[NDArray[Any]], batches: tuple[int, ...]) -> bool:
    if not np.issubdtype(arrays[0].dtype, np.floating) or arrays[0].ndim < 2:
        return False
    return all(array.shape[0] == batch for array, batch in zip(arrays, batches, strict=True))


def _dominating(graph: onnx.GraphProto, signature: ModelSignature) -> list[str]:
    """Values that all paths from the image to the output share, in the order of the graph.

    A value is on all paths exactly when the paths that lead to it, times those that lead on from it, are all there
    are. Path counts grow beyond any fixed width, so they are Python's whole numbers.
    """
    image, output = signature.input_name, signature.output_name
    reached = reached_values(graph, [image])
    nodes = needed_nodes(graph, {output})
    before: dict[str, int] = defaultdict(int, {image: 1})
    for node in nodes:
        paths = sum(before[name] for name in reads(node) & reached)
        before.update((name, paths) for name in node.output if name in reached)
    after: dict[str, int] = defaultdict(int, {output: 1})
    for node in reversed(nodes):
        paths = sum(after[name] for name in node.output if name)
        for name in reads(node) & reached:
            after[name] += paths
    total = before[output]
    computed = (name for node in nodes for name in node.output if name in reached)
    return [name for name in computed if before[name] * after[name] == total]
