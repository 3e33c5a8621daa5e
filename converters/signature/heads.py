"""The outputs beside the one that is scanned: what else a model says about an image."""

from __future__ import annotations

from backscan.converters.errors import ConverterError, border
from backscan.converters.graph import sort_nodes
from backscan.converters.intake.artifact import Artifact, parse
from backscan.converters.signature.output import last_vectors, leads_to
from backscan.converters.signature.signature import ModelSignature, read_outputs, read_signature


def outputs_beside(artifact: Artifact, signature: ModelSignature) -> tuple[str, ...]:
    """Names of the outputs that the chosen one is not computed from, so that its scan says nothing about them."""
    if not signature.other_outputs:
        return ()
    graph = parse(artifact, fold_external=False).graph
    sort_nodes(graph)
    return tuple(name for name in signature.other_outputs if not leads_to(name, signature.output_name, graph))


@border("finding out what the model gives")
def class_heads(
    artifact: Artifact, *, image_size: tuple[int, int] | None, clean_shape: tuple[int, int, int] | None
) -> tuple[tuple[str, int], ...]:
    """Everything in a file that is scores of classes, each head once, and its number of classes.

    Where a head has several outputs, such as logits and their softmax, it is the last of them; where it shows only
    what was chosen from its scores, those scores inside the model.

    Args:
        artifact: The model, external data included.
        image_size: Height and width, for models that take any.
        clean_shape: Channels, height and width of the clean images.
    """
    read = read_outputs(artifact, image_size, clean_shape)
    graph, declared = read.model.graph, read.declared
    outputs = {name: form for name, form in read.forms.items() if name in declared and name not in read.chosen}
    heads = {name: outputs[name] for name in last_vectors(graph, outputs)}
    for choice in read.chosen.values():
        related = (leads_to(*pair, graph) for name in heads for pair in ((choice.source, name), (name, choice.source)))
        if not choice.least and not any(related):
            heads[choice.source] = read.forms[choice.source]
    return tuple((name, max(2, form.num_scores)) for name, form in heads.items())


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
