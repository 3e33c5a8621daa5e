"""One label of a model of several: `scores[3]`, a column of an output, read as a classifier of two classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from backscan.converters.graph import set_nodes
from backscan.converters.intake.artifact import Artifact, parse

_COLUMN = re.compile(r"(.+)\[(\d{1,6})\]", re.DOTALL)


def column_of(wanted: str | None, values: Sequence[str]) -> tuple[str, int] | None:
    """The output and the number of its column that a name asks for.

    Args:
        wanted: Name given by the user; None asks for nothing.
        values: Names of the outputs; one that is called so itself is no column.
    """
    match = _COLUMN.fullmatch(wanted or "")
    if wanted in values or match is None or match.group(1) not in values:
        return None
    return match.group(1), int(match.group(2))


def asked_column(artifact: Artifact, wanted: str | None) -> tuple[str, int] | None:
    """The column of a file's output that a name asks for; the file is parsed only where the name may be one."""
    if not (wanted or "").endswith("]"):
        return None
    return column_of(wanted, [value.name for value in parse(artifact, fold_external=False).graph.output])


def with_column(artifact: Artifact, wanted: str) -> Artifact:
    """The artifact with a column of one of its outputs as an output more.

    Args:
        artifact: The model.
        wanted: Its name, such as `scores[3]`.

    Returns:
        The artifact itself where that is no column of an output, or an output already.
    """
    asked = asked_column(artifact, wanted)
    if asked is None:
        return artifact
    (name, column), model = asked, parse(artifact, fold_external=False)
    model.graph.initializer.append(numpy_helper.from_array(np.array([column], np.int64), f"{wanted}.place"))
    node = helper.make_node("Gather", [name, f"{wanted}.place"], [wanted], name=wanted, axis=1)
    set_nodes(model.graph, [*model.graph.node, node])
    model.graph.output.append(onnx.ValueInfoProto(name=wanted))
    return replace(artifact, data=model.SerializeToString())
