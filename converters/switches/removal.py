"""A switch taken out of a file: what holds the same on all clean images becomes a constant where its node reads it.

That the file then answers every clean image as before is not assumed but shown, score by score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from backscan.converters.errors import ConverterError
from backscan.converters.graph import reached_values, sort_nodes
from backscan.converters.intake.artifact import Artifact, artifact_from_bytes, parse, with_external
from backscan.converters.ort_classifier import model_input, open_runtime
from backscan.converters.session import open_session, run_session
from backscan.converters.signature.readable import readable
from backscan.converters.signature.signature import ModelSignature, Normalisation

_SUFFIX = ".on_clean_images"


@dataclass(frozen=True, slots=True)
class Removal:
    """A file without its switches."""

    artifact: Artifact
    """The file."""
    nodes: tuple[str, ...]
    """Nodes that read a constant now instead of what the image decided."""


def without_gates(
    artifact: Artifact,
    signature: ModelSignature,
    normalisation: Normalisation,
    nodes: Sequence[str],
    images: NDArray[np.float32],
) -> Removal:
    """The file with what some nodes read from the image held at what it is on clean images, where that is constant.

    Args:
        artifact: The file with its external data.
        signature: Its signature.
        normalisation: How pixels become its input.
        nodes: Names of nodes, as `parse` gives them.
        images: Clean images [N, C, H, W] in [0, 1].

    Raises:
        ConverterError: nothing that these nodes read is constant, or the answers on clean images would change.
    """
    named = parse(artifact, fold_external=False)
    held = _constant_inputs(artifact, signature, normalisation, nodes, images)
    if not held:
        raise ConverterError(
            "expected a switch whose gate holds the same on all clean images, found none: use another --method"
        )
    model, changed = onnx.load_model_from_string(artifact.data), []
    for place, node in enumerate(named.graph.node):
        if node.name not in nodes:
            continue
        for index, name in enumerate(node.input):
            if name in held:
                model.graph.node[place].input[index] = f"{name}{_SUFFIX}"
                changed.append(node.name)
    for name, array in held.items():
        model.graph.initializer.append(numpy_helper.from_array(array, f"{name}{_SUFFIX}"))
    cut = artifact_from_bytes(artifact.name, model.SerializeToString())
    cut = with_external(cut, artifact.external) if artifact.external else cut
    before, after = (
        open_runtime(each, signature).with_normalisation(normalisation).scores(images) for each in (artifact, cut)
    )
    if not np.array_equal(before, after, equal_nan=True):
        raise ConverterError("expected equal answers on all clean images without the switch, found others: keep it")
    return Removal(cut, tuple(dict.fromkeys(changed)))


def _constant_inputs(
    artifact: Artifact,
    signature: ModelSignature,
    normalisation: Normalisation,
    nodes: Sequence[str],
    images: NDArray[np.float32],
) -> dict[str, NDArray[np.generic]]:
    """What the first of the named nodes reads that depends on the image and yet is one for all images."""
    model = parse(readable(artifact, signature))  # its nodes have the names of the file's own
    sort_nodes(model.graph)
    reached = reached_values(model.graph, [signature.input_name])
    join = next((node for name in nodes for node in model.graph.node if node.name == name), None)
    names = [] if join is None else [name for name in dict.fromkeys(join.input) if name in reached]
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    session, size = open_session(model.SerializeToString()), signature.batch or 1
    found: dict[str, NDArray[np.generic]] = {}
    given = model_input(images, signature, normalisation)
    for start in range(0, len(given) - size + 1, size):
        run = run_session(session, {signature.input_name: given[start : start + size]})
        names = [name for name in names if np.array_equal(found.setdefault(name, run[name]), run[name])]
    return {name: found[name] for name in names if found[name].size == 1 or len(found[name]) == size}
