"""The import: from an artifact and its signature to a frozen, differentiable torch classifier."""

from dataclasses import dataclass, replace

import numpy as np
import onnx
import torch
from onnx import shape_inference
from torch import fx, nn

from backscan.converters.artifact import Artifact, parse
from backscan.converters.batching import Rows, free_batch, group_images
from backscan.converters.builder import GraphBuilder, blame_node
from backscan.converters.classifier import TorchClassifier
from backscan.converters.engine import noise
from backscan.converters.errors import ConverterError, NotDifferentiableError
from backscan.converters.graph import reached_values, sort_nodes
from backscan.converters.heads import find_tail, remove_tail
from backscan.converters.normalise import normalise
from backscan.converters.precision import widen
from backscan.converters.signature import ModelSignature, pixel_normalisation

SURROGATES = frozenset({"Sign", "Round", "Floor", "Ceil", "QuantizeLinear", "DynamicQuantizeLinear", "Hardmax"})
"""Operators whose own gradient is zero everywhere: the importer gives them a straight-through one."""


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
        UnsupportedOperatorError: An operator has no converter.
        ConversionError: A node cannot be converted, or its module fails.
        NotDifferentiableError: No gradient reaches the image.
        EngineError: onnxruntime cannot compute the graph's constants.
    """
    model = parse(artifact)
    sort_nodes(model.graph)
    head = expose_logits(model.graph, signature)
    imported = import_network(model, signature)
    classifier = TorchClassifier(
        imported.network,
        signature,
        pixel_normalisation(signature),
        head=head,
        has_surrogates=imported.has_surrogates,
        notes=imported.notes,
    )
    classifier.requires_grad_(requires_grad=False).eval().to(device)
    _check_run(classifier)
    return classifier


@dataclass(frozen=True, slots=True)
class ImportedNetwork:
    """A network and what is known of it.

    Attributes:
        network: Takes the model's own input for N images, gives [N, num_scores].
        has_surrogates: Whether steps inside pass a gradient that is not their own.
        notes: What the user should know, one sentence each.
    """

    network: nn.Module
    has_surrogates: bool
    notes: tuple[str, ...]


def import_network(model: onnx.ModelProto, signature: ModelSignature) -> ImportedNetwork:
    """The network of a model, called with the model's own input for any number of images.

    Args:
        model: A whole model in topological order; it may be changed.
        signature: Its signature.

    Returns:
        The network, the batch freed where the model fixes it.
    """
    if signature.precision == "half":
        signature = widen(model, signature)
    fix_input_size(model, signature)
    plain = normalise(model, signature)
    surrogates = _surrogates(plain, signature)
    network, notes = _any_batch(plain, signature)
    if surrogates:
        notes += (f"gradients pass straight through {', '.join(surrogates)}, whose own gradient is zero",)
    return ImportedNetwork(network, bool(surrogates), notes)


def _any_batch(plain: onnx.ModelProto, signature: ModelSignature) -> tuple[nn.Module, tuple[str, ...]]:
    """A network for any number of images, and what to say about how that was reached."""
    if signature.batch is None:
        return Rows(build(plain), signature), ()
    freed = free_batch(plain, signature)
    if freed is not None:
        free = replace(signature, batch=None)
        return Rows(build(normalise(freed, free)), free), ()
    groups = group_images(build(plain), signature)
    if groups.at_once:
        return groups, ()
    return groups, (f"the model takes {signature.batch} image(s) a call and cannot be vectorised: the scan is slow",)


def build(plain: onnx.ModelProto) -> fx.GraphModule:
    """The torch module of a normalised model."""
    return GraphBuilder(shape_inference.infer_shapes(plain)).build()


def expose_logits(graph: onnx.GraphProto, signature: ModelSignature) -> str:
    """Take a final softmax or sigmoid off the graph, so that log-posteriors are exact; gives the head that is left."""
    tail = find_tail(graph, signature.output_name)
    if tail is not None and (signature.output_kind, tail.operator) == ("probabilities", "Softmax"):
        remove_tail(tail)
        return "logits"
    if tail is not None and (signature.output_kind, tail.operator) == ("sigmoids", "Sigmoid"):
        remove_tail(tail)
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


def _surrogates(plain: onnx.ModelProto, signature: ModelSignature) -> list[str]:
    """Operators on the way of the image whose own gradient is zero."""
    reached = reached_values(plain.graph, [signature.input_name])
    operators = {node.op_type for node in plain.graph.node if reached.intersection(node.output)}
    return sorted(name for name in operators if name in SURROGATES or name.startswith("QLinear"))


def _check_run(classifier: TorchClassifier) -> None:
    """Run the classifier once on noise: it must run, and its output must depend on the image differentiably."""
    signature = classifier.signature
    shape = (signature.batch or 2, *signature.input_shape)
    images = torch.from_numpy(noise(shape, np.dtype(np.float32), seed=0)).to(classifier.device).requires_grad_()
    try:
        scores = classifier.logits(images)
    except Exception as error:
        blame_node(classifier.network, classifier.inputs(images))
        raise ConverterError(f"the imported model cannot be run ({error}): report the model") from error
    if not scores.requires_grad:
        raise NotDifferentiableError(
            "no gradient reaches the image: every path to the output passes a step such as ArgMax, a comparison or a "
            "tree; only differentiable classifiers can be scanned"
        )
