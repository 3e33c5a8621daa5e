"""The rules in their order; each takes the model and what is known of it, and edits the model in place."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import onnx
from onnx import inliner

from backscan.converters.graph import drop_unused, set_outputs, sort_nodes
from backscan.converters.intake.node_names import name_apart
from backscan.converters.rewrites.control import expand_control_flow
from backscan.converters.rewrites.convolutions import fold_into_convolutions
from backscan.converters.rewrites.folding import constants_to_initialisers, fold_unreached, write_reshapes
from backscan.converters.rewrites.identities import drop_identities, unzip_scores
from backscan.converters.rewrites.setting import Setting
from backscan.converters.signature.signature import ModelSignature

_MAX_ROUNDS = 8  # branches within branches; each round may uncover constants that decide the next


def normalise(
    model: onnx.ModelProto,
    signature: ModelSignature,
    outputs: Sequence[str] = (),
    *,
    in_place: bool = False,
    fold: bool = True,
) -> onnx.ModelProto:
    """Rewrite a model into the plain form that the importer walks.

    Args:
        model: A whole model, external data folded in.
        signature: Its signature.
        outputs: Values to keep computable, in this order; the classifying output by default.
        in_place: Change `model` itself, which saves the memory of a copy; by default it is left as it is.
        fold: Apply rule 8; without it each stored tensor stays by itself.

    Returns:
        The rewritten model, whose only outputs are `outputs`, with the same values.

    Raises:
        ArtifactError: the graph is cyclic.
        EngineError: onnxruntime cannot compute the constants.
    """
    plain = inliner.inline_local_functions(model) if model.functions else model if in_place else deepcopy(model)
    plain.ir_version = max(plain.ir_version, 4)  # before, every initialiser had to be an input too
    setting = Setting(signature)
    sort_nodes(plain.graph)
    unzip_scores(plain.graph)
    set_outputs(plain.graph, outputs or [signature.output_name])
    del plain.graph.value_info[:]
    drop_unused(plain.graph)
    for _ in range(_MAX_ROUNDS):
        constants_to_initialisers(plain.graph)
        fold_unreached(plain, setting)
        if not expand_control_flow(plain):
            break
        sort_nodes(plain.graph)
    write_reshapes(plain, setting)
    drop_identities(plain.graph)
    if fold:
        fold_into_convolutions(plain.graph)
    drop_unused(plain.graph)
    name_apart((node, str(index)) for index, node in enumerate(plain.graph.node))
    return plain
