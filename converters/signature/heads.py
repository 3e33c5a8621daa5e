"""The outputs beside the one that is scanned: what else a model says about an image."""

from __future__ import annotations

from backscan.converters.errors import ConverterError
from backscan.converters.graph import sort_nodes
from backscan.converters.intake.artifact import Artifact, parse
from backscan.converters.signature.output import leads_to
from backscan.converters.signature.signature import ModelSignature, read_signature


def outputs_beside(artifact: Artifact, signature: ModelSignature) -> tuple[str, ...]:
    """Names of the outputs that the chosen one is not computed from, so that its scan says nothing about them."""
    if not signature.other_outputs:
        return ()
    graph = parse(artifact, fold_external=False).graph
    sort_nodes(graph)
    return tuple(name for name in signature.other_outputs if not leads_to(name, signature.output_name, graph))


def other_heads(artifact: Artifact, signature: ModelSignature) -> tuple[ModelSignature, ...]:
    """Signatures of those outputs beside the chosen one that give scores too.

    Args:
        artifact: The model, external data included.
        signature: Its signature, with the output that was chosen.
    """
    heads = []
    for name in outputs_beside(artifact, signature):
        try:
            head = read_signature(artifact, output_name=name, image_size=signature.input_shape[1:])
        except ConverterError:  # labels, boxes, maps
            continue
        if head.num_scores > 1:
            heads.append(head)
    return tuple(heads)
