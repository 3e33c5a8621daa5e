"""A model cut at one value: front and back in torch, and the same cut on the original artifact in onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor, nn

from backscan.converters.cuts.candidates import CutCandidate, cut_candidates
from backscan.converters.errors import ConverterError, CutNameError, border
from backscan.converters.graph import drop_unused, producers, rename_reads, set_nodes, set_outputs, sort_nodes
from backscan.converters.intake.artifact import Artifact, parse
from backscan.converters.intake.node_names import OWN
from backscan.converters.ort_classifier import OrtClassifier
from backscan.converters.rewrites import normalise
from backscan.converters.session import CPU_ONLY, open_session
from backscan.converters.signature.signature import ModelSignature, Normalisation, pixel_normalisation
from backscan.converters.torch_import.batching import Rows, free_batch
from backscan.converters.torch_import.classifier import log_posterior, twin_with
from backscan.converters.torch_import.half import widen
from backscan.converters.torch_import.importer import build, expose_logits, fix_input_size
from backscan.converters.torch_import.pixels import PixelInput

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["Back", "CutCandidate", "Front", "OrtCut", "Split", "cut_candidates", "open_cut", "split"]

_ADDED = f"{OWN}added"
"""Name of the input that the cut artifact gets; no exporter writes it."""


class Front(nn.Module):
    """From images in pixel units to features: the part before the cut."""

    def __init__(self, network: nn.Module, signature: ModelSignature, normalisation: Normalisation) -> None:
        super().__init__()
        self.inputs = PixelInput(signature, normalisation)
        self.network = network
        self._signature = signature

    def forward(self, images: Tensor) -> Tensor:
        """Features [N, ...] of images [N, C, H, W] in [0, 1]."""
        features: Tensor = self.network(self.inputs(images))
        return features

    def with_normalisation(self, normalisation: Normalisation) -> Front:
        """The same part for another normalisation; the two share their weights."""
        inputs = PixelInput(self._signature, normalisation).to(self.inputs.factor.device)
        return twin_with(self, inputs=inputs)


class Back(nn.Module):
    """From features to log-posteriors: the part behind the cut."""

    def __init__(self, network: nn.Module, signature: ModelSignature, head: str, *, wants_image: bool) -> None:
        super().__init__()
        self.network = network
        self.signature = signature
        self.head = head
        self._wants_image = wants_image

    def logits(self, features: Tensor) -> Tensor:
        """Scores before the head, [N, num_scores], of features [N, ...]."""
        inputs = [features]
        if self._wants_image:  # for its size alone: nothing behind the cut depends on what it holds
            inputs.append(features.new_zeros(1).expand(self.signature.model_shape(len(features))))
        scores: Tensor = self.network(*inputs)
        return scores.float()

    def log_posterior(self, features: Tensor) -> Tensor:
        """Log-probabilities log p(c|x), [N, K], of features [N, ...]."""
        return log_posterior(self.logits(features), self.head)

    def forward(self, features: Tensor) -> Tensor:
        """The same as `log_posterior`."""
        return self.log_posterior(features)


class OrtCut:
    """The original artifact, which adds what it is given to the value at the cut."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        signature: ModelSignature,
        normalisation: Normalisation,
        cut: CutCandidate,
    ) -> None:
        self._session = session
        self._signature = signature
        self._normalisation = normalisation
        self.cut = cut
        """The value."""

    def with_normalisation(self, normalisation: Normalisation) -> OrtCut:
        """The same artifact for another normalisation."""
        return OrtCut(self._session, self._signature, normalisation, self.cut)

    def adding(self, pattern: NDArray[np.float32]) -> OrtClassifier:
        """The classifier that adds a pattern at the cut.

        Args:
            pattern: [1, ...], of the cut's shape for one image; added for every image of a call.
        """
        added = {_ADDED: np.ascontiguousarray(pattern, dtype=self.cut.dtype)}
        return OrtClassifier(self._session, self._signature, self._normalisation, extra_inputs=added)


@dataclass(frozen=True, slots=True)
class Split:
    """A model in two parts: `back(front(images))` is its log-posterior."""

    cut: str
    """Name of the value in between."""
    shape: tuple[int, ...]
    """Shape of the features of one image."""
    front: Front
    """Images to features, differentiable."""
    back: Back
    """Features to log-posteriors, differentiable."""
    original: OrtCut
    """The artifact itself, with what is added at the cut."""

    def with_normalisation(self, normalisation: Normalisation) -> Split:
        """The same cut for another normalisation."""
        return replace(
            self,
            front=self.front.with_normalisation(normalisation),
            original=self.original.with_normalisation(normalisation),
        )


@border("cutting the model")
def split(
    artifact: Artifact,
    signature: ModelSignature,
    tensor_name: str,
    *,
    normalisation: Normalisation | None = None,
    device: str | torch.device = "cpu",
    threads: int | None = None,
    providers: Sequence[str] = CPU_ONLY,
) -> Split:
    """Cut a model at a value.

    Args:
        artifact: The model, external data included.
        signature: Its signature.
        tensor_name: A name that `cut_candidates` lists.
        normalisation: How pixels become model input; the plainest by default.
        device: Where the torch parts shall live.
        threads: Threads of an onnxruntime operator.
        providers: Execution providers of onnxruntime.

    Returns:
        Both parts and the cut artifact.

    Raises:
        ConverterError: the model cannot be cut there, or cannot be imported.
    """
    original = open_cut(
        artifact, signature, tensor_name, normalisation=normalisation, threads=threads, providers=providers
    )
    normalisation, cut = normalisation or pixel_normalisation(signature), original.cut
    plain, head, inner = _plain(artifact, signature, cut.name)
    front = Front(build(_before(plain, cut.name)), signature, normalisation)
    behind = _behind(plain, cut, inner)
    back = Back(Rows(build(behind), inner), inner, head, wants_image=len(behind.graph.input) > 1)
    for part in (front, back):
        part.requires_grad_(requires_grad=False).eval().to(device)
    return Split(cut.name, cut.shape, front, back, original)


@border("cutting the model")
def open_cut(
    artifact: Artifact,
    signature: ModelSignature,
    tensor_name: str,
    *,
    normalisation: Normalisation | None = None,
    threads: int | None = None,
    providers: Sequence[str] = CPU_ONLY,
) -> OrtCut:
    """The original artifact alone, ready to add patterns at a value; arguments as for `split`.

    Raises:
        CutNameError: no such tensor, or not all of the image passes through it.
        ConverterError: the model cannot be cut there.
    """
    candidates = {candidate.name: candidate for candidate in cut_candidates(artifact, signature)}
    if tensor_name not in candidates:
        raise CutNameError(
            f"the model cannot be cut at '{tensor_name}', which is no tensor that all of the image passes through: "
            f"choose one of {', '.join(candidates) or 'none'}"
        )
    cut = candidates[tensor_name]
    session = open_session(_with_addition(artifact, cut), artifact.external, threads=threads, providers=providers)
    return OrtCut(session, signature, normalisation or pixel_normalisation(signature), cut)


def _plain(artifact: Artifact, signature: ModelSignature, cut: str) -> tuple[onnx.ModelProto, str, ModelSignature]:
    """The normalised model with the cut as its first output, the head that is left, and its own signature."""
    model = parse(artifact)
    sort_nodes(model.graph)
    head = expose_logits(model.graph, signature)
    if signature.precision == "half":
        signature = widen(model, signature)
    fix_input_size(model, signature)
    outputs = [cut, signature.output_name]
    plain = normalise(model, signature, outputs)
    if signature.batch is None:
        return plain, head, signature
    freed = free_batch(plain, signature)
    if freed is None:
        raise ConverterError(
            f"the model cannot be cut because it takes {signature.batch} image(s) a call: export it with a free batch"
        )
    free = replace(signature, batch=None)
    return normalise(freed, free, outputs), head, free


def _before(plain: onnx.ModelProto, cut: str) -> onnx.ModelProto:
    front = deepcopy(plain)
    set_outputs(front.graph, [cut])
    drop_unused(front.graph)
    return front


def _behind(plain: onnx.ModelProto, cut: CutCandidate, signature: ModelSignature) -> onnx.ModelProto:
    """The part after the cut, which becomes its first input; the image stays an input if its size is asked for."""
    back = deepcopy(plain)
    graph = back.graph
    maker = producers(graph)[cut.name]
    maker.output[list(maker.output).index(cut.name)] = f"{cut.name}{OWN}before"
    set_outputs(graph, [signature.output_name])
    drop_unused(graph)
    read = {name for node in graph.node for name in node.input}
    images = [value for value in graph.input if value.name in read]
    dtype = np.float64 if cut.dtype == "float64" else np.float32
    features = helper.make_tensor_value_info(
        cut.name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), ["N", *cut.shape]
    )
    del graph.input[:]
    graph.input.extend([features, *images])
    return back


def _with_addition(artifact: Artifact, cut: CutCandidate) -> bytes:
    """The artifact's bytes with one `Add` after the cut; weights and all other nodes stay as they are."""
    model = parse(artifact, fold_external=False)
    graph = model.graph
    shifted = f"{cut.name}{OWN}shifted"
    rename_reads(graph, {cut.name: shifted})
    position = next(index for index, node in enumerate(graph.node) if cut.name in node.output)
    addition = helper.make_node("Add", [cut.name, _ADDED], [shifted], name=_ADDED)
    set_nodes(graph, [*graph.node[: position + 1], addition, *graph.node[position + 1 :]])
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(cut.dtype))
    graph.input.append(helper.make_tensor_value_info(_ADDED, elem_type, ["added", *cut.shape]))
    data: bytes = model.SerializeToString()
    return data
