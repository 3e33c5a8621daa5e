"""The import: from an artifact and its signature to a frozen, differentiable torch classifier."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import onnx
import torch
from torch import Tensor, fx, nn

from backscan.converters.errors import ArtifactError, ConverterError, border
from backscan.converters.graph import sort_nodes
from backscan.converters.intake.artifact import Artifact, parse
from backscan.converters.rewrites import normalise
from backscan.converters.rewrites.branches import forget_branch_shapes, merge_branches
from backscan.converters.session import noise
from backscan.converters.signature.readable import readable
from backscan.converters.signature.signature import ModelSignature, pixel_normalisation
from backscan.converters.signature.tail import find_tail, remove_tail
from backscan.converters.torch_import.batching import Rows, free_batch, group_images
from backscan.converters.torch_import.builder import GraphBuilder, annotate_shapes, blame_node, inferred
from backscan.converters.torch_import.classifier import TorchClassifier
from backscan.converters.torch_import.differentiability import passes_surrogates, require_gradient_path, whole_numbers
from backscan.converters.torch_import.half import widen

SURROGATE_NOTE = (
    "the model has steps whose own gradient is zero, such as signs or roundings to 8 bits; the search follows a "
    "surrogate gradient through them"
)
_MOST_DEPTH = 8
"""Branches within branches; deeper ones are left for the importer to refuse."""


@border("the import into torch")
def import_model(
    artifact: Artifact, signature: ModelSignature, *, device: str | torch.device = "cpu"
) -> TorchClassifier:
    """Import a model as a torch module that takes any number of images.

    Args:
        artifact: The model, external data included; nothing is written anywhere.
        signature: Its signature.
        device: Where the module shall live.

    Returns:
        The classifier in evaluation mode, no parameter of which asks for a gradient, with the plainest normalisation.

    Raises:
        UnsupportedOperatorError: an operator has no converter.
        ConversionError: a node cannot be converted, or its module fails.
        NotDifferentiableError: no gradient reaches the image.
        EngineError: onnxruntime cannot compute the graph's constants.
    """
    model = parse(readable(artifact, signature))
    sort_nodes(model.graph)
    head = expose_logits(model.graph, signature)
    steps = whole_numbers(model.graph, signature)  # by the file's own names, which the import replaces
    network, notes = import_network(model, signature)
    classifier = TorchClassifier(network, signature, pixel_normalisation(signature), head=head, notes=notes)
    classifier.requires_grad_(requires_grad=False).eval().to(device)
    if passes_surrogates(_run_on_noise(classifier), steps):
        classifier.has_surrogates = True
        classifier.notes += (SURROGATE_NOTE,)
    return classifier


class ImportedNetwork(NamedTuple):
    """A network called with the model's own input for any number of images."""

    network: nn.Module
    """Gives [N, num_scores]."""
    notes: tuple[str, ...] = ()
    """What the user should know, one sentence each."""


def import_network(model: onnx.ModelProto, signature: ModelSignature, *, fold: bool = True) -> ImportedNetwork:
    """The network of a model, called with the model's own input for any number of images.

    Args:
        model: A whole model in topological order; it may be changed.
        signature: Its signature.
        fold: Fold scalings into the convolutions before them; without it each stored tensor keeps one of its own.

    Returns:
        The network, the batch freed where the model fixes it.
    """
    if signature.precision == "half":
        signature = widen(model, signature)
    fix_input_size(model, signature)
    plain = normalise(model, signature, in_place=True, fold=fold)
    for _ in range(_MOST_DEPTH):
        if not _branches_merged(plain):
            break
        plain = normalise(plain, signature, in_place=True, fold=fold)
    require_gradient_path(plain.graph, signature)
    return _any_batch(plain, signature, fold=fold)


def _branches_merged(plain: onnx.ModelProto) -> bool:
    """Whether there were branches between which the image chooses; what is known of shapes is needed for them."""
    if all(node.op_type != "If" for node in plain.graph.node):
        return False
    with border("reading the branches of the graph"):
        forget_branch_shapes(plain.graph)
        return merge_branches(plain, inferred(plain))


def _any_batch(plain: onnx.ModelProto, signature: ModelSignature, *, fold: bool) -> ImportedNetwork:
    if signature.batch is None:
        return ImportedNetwork(Rows(build(plain), signature))
    freed = free_batch(plain, signature)
    if freed is not None:
        free = replace(signature, batch=None)
        return ImportedNetwork(Rows(build(normalise(freed, free, in_place=True, fold=fold)), free))
    groups = group_images(build(plain), signature)
    if groups.at_once:
        return ImportedNetwork(groups)
    note = f"the model takes {signature.batch} image(s) a call and cannot be vectorised: the scan is slow"
    return ImportedNetwork(groups, (note,))


def build(plain: onnx.ModelProto) -> fx.GraphModule:
    """The torch module of a normalised model."""
    try:
        annotate_shapes(plain)
        builder = GraphBuilder(plain)
    except Exception as error:  # onnx and onnx2torch raise whatever a malformed field leads to
        raise ArtifactError(f"the model's graph cannot be read ({error}): export the model again") from error
    return builder.build()


def expose_logits(graph: onnx.GraphProto, signature: ModelSignature) -> str:
    """Take a final softmax or sigmoid off the graph, so that log-posteriors are exact; gives the head that is left."""
    tail = find_tail(graph, signature.output_name)
    if tail is not None and (signature.output_kind, tail.operator) == ("probabilities", "Softmax"):
        remove_tail(graph, tail)
        return "logits"
    if tail is not None and (signature.output_kind, tail.operator) == ("sigmoids", "Sigmoid"):
        remove_tail(graph, tail)
        return "sigmoid_logits"
    return signature.output_kind


def fix_input_size(model: onnx.ModelProto, signature: ModelSignature) -> None:
    """Write the image size into the input, so that sizes further on follow from it."""
    for value in model.graph.input:
        if value.name == signature.input_name:
            sizes = signature.model_shape(signature.batch or 1)
            shape = value.type.tensor_type.shape
            for axis, (dimension, size) in enumerate(zip(shape.dim, sizes, strict=True)):
                if axis == 0 and signature.batch is None:
                    dimension.dim_param = "batch"
                else:
                    dimension.dim_value = size


def _run_on_noise(classifier: TorchClassifier) -> Tensor:
    """Scores of the classifier on noise, with their gradient; a module that fails is blamed on its node."""
    signature = classifier.signature
    shape = (signature.batch or 2, *signature.input_shape)
    images = torch.from_numpy(noise(shape, np.dtype(np.float32), seed=0)).to(classifier.device).requires_grad_()
    try:
        scores = classifier.logits(images)
    except Exception as error:
        blame_node(classifier.network, classifier.inputs(images))
        raise ConverterError(f"the imported model cannot be run ({error}): report the model") from error
    expected = (len(images), signature.num_scores)
    if scores.shape != expected:
        raise ConverterError(
            f"expected scores of shape {expected} from the imported model, found {tuple(scores.shape)}: export "
            "the model with a free batch"
        )
    return scores
