"""The original artifact in onnxruntime, called with images in pixel units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backscan.converters.errors import EngineError, border
from backscan.converters.graph import sort_nodes
from backscan.converters.intake.artifact import Artifact, parse
from backscan.converters.session import CPU_ONLY, noise, open_session, run_session
from backscan.converters.signature.layout import is_flat
from backscan.converters.signature.output import output_kind, score_rows
from backscan.converters.signature.readable import readable
from backscan.converters.signature.signature import ModelSignature, Normalisation, pixel_normalisation

if TYPE_CHECKING:
    import onnxruntime

_CHUNK = 256  # images a call, where the batch is free
_NOISE_IMAGES = 3


class OrtClassifier:
    """A classifier run by onnxruntime on the bytes of the artifact, unchanged."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        signature: ModelSignature,
        normalisation: Normalisation,
        *,
        extra_inputs: Mapping[str, NDArray[Any]] = MappingProxyType({}),
    ) -> None:
        """Wrap a session; `extra_inputs` go into every call beside the images."""
        self._session = session
        self._extra_inputs = extra_inputs
        self.signature = signature
        """Inputs and outputs of the model."""
        self.normalisation = normalisation
        """How pixels become model input."""

    @property
    def providers(self) -> tuple[str, ...]:
        """Execution providers that the session really uses."""
        return tuple(self._session.get_providers())

    def with_normalisation(self, normalisation: Normalisation) -> OrtClassifier:
        """The same session with another normalisation."""
        return OrtClassifier(self._session, self.signature, normalisation, extra_inputs=self._extra_inputs)

    def with_signature(self, signature: ModelSignature) -> OrtClassifier:
        """The same session with another of its outputs."""
        return OrtClassifier(self._session, signature, self.normalisation, extra_inputs=self._extra_inputs)

    def scores(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        """What the model's output holds.

        Args:
            images: [N, C, H, W], RGB pixels in [0, 1].

        Returns:
            [N, num_scores], in the output's own units.

        Raises:
            ValueError: the images have another shape than the model's.
            EngineError: onnxruntime failed.
        """
        inputs = model_input(images, self.signature, self.normalisation)
        size = self._images_a_call
        chunks = [self._run(inputs[start : start + size]) for start in range(0, len(inputs), size)]
        return np.concatenate(chunks) if chunks else np.zeros((0, self.signature.num_scores))

    def read(self, images: NDArray[np.float32], output: str | None) -> NDArray[Any]:
        """What another output holds, one number for each image, computed beside the scores.

        Args:
            images: [N, C, H, W], RGB pixels in [0, 1].
            output: Its name; None computes the scores alone, and gives nothing.

        Raises:
            EngineError: onnxruntime failed.
        """
        inputs = model_input(images, self.signature, self.normalisation)
        size, found = self._images_a_call, list[NDArray[Any]]()
        wanted = [self.signature.output_name, *([output] if output else [])]
        for start in range(0, len(inputs), size):
            part = inputs[start : start + size]
            filled = np.concatenate(
                [part, np.repeat(part[-1:], max(0, (self.signature.batch or 0) - len(part)), axis=0)]
            )
            run = run_session(self._session, {self.signature.input_name: filled, **self._extra_inputs}, wanted)
            found.append(run[output][: len(part)] if output else np.empty(0))
        return np.concatenate(found) if found else np.empty(0)

    def posterior(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        """Class probabilities p(c|x), [N, K], of images [N, C, H, W] in [0, 1]."""
        return scores_to_posterior(self.scores(images), self.signature.output_kind)

    def decisions(self, images: NDArray[np.float32]) -> NDArray[np.int64]:
        """Most probable class of each image, [N], by the scores themselves; one that is not a number is the largest."""
        return decided(self.scores(images), self.signature.output_kind)

    def scores_alone(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        """As `scores`, one image a call where the batch is free and the model takes a single image."""
        if self.signature.batch is not None or not len(images):
            return self.scores(images)
        try:
            first = self.scores(images[:1])
        except EngineError:
            return self.scores(images)
        return np.concatenate([first, *(self.scores(image[None]) for image in images[1:])])

    def decisions_alone(self, images: NDArray[np.float32]) -> NDArray[np.int64]:
        """Most probable class of each image, [N], by `scores_alone`."""
        return decided(self.scores_alone(images), self.signature.output_kind)

    def one_image_a_call(self, artifact: Artifact) -> OrtClassifier:
        """The same session, called with single images from now on, as if the file fixed that.

        Args:
            artifact: The model; what its scores are is judged anew, as they may differ between calls.
        """
        classifier = OrtClassifier(
            self._session, replace(self.signature, batch=1), self.normalisation, extra_inputs=self._extra_inputs
        )
        graph = parse(artifact, fold_external=False).graph
        sort_nodes(graph)
        scores = classifier.scores(noise((_NOISE_IMAGES, *self.signature.input_shape), np.dtype(np.float32), seed=0))
        kind = output_kind(graph, self.signature.output_name, scores)
        classifier.signature = replace(classifier.signature, output_kind=kind)
        return classifier

    @property
    def _images_a_call(self) -> int:
        return self.signature.batch or self.signature.images_at_once(_CHUNK)

    def _run(self, inputs: NDArray[Any]) -> NDArray[np.float64]:
        short = (self.signature.batch or 0) - len(inputs)
        if short > 0:  # the model insists on full batches: repeat the last image and drop its scores
            inputs = np.concatenate([inputs, np.repeat(inputs[-1:], short, axis=0)])
        feeds = {self.signature.input_name: inputs, **self._extra_inputs}
        output = run_session(self._session, feeds)[self.signature.output_name]
        rows = score_rows(output, self.signature.batch_axis, self.signature.num_scores)
        return rows[: len(inputs) - max(short, 0)].astype(np.float64)


@border("opening the model in onnxruntime")
def open_runtime(
    artifact: Artifact,
    signature: ModelSignature,
    *,
    threads: int | None = None,
    providers: Sequence[str] = CPU_ONLY,
) -> OrtClassifier:
    """Open the original artifact in onnxruntime.

    Args:
        artifact: The model; its external data is handed over in memory.
        signature: Its signature.
        threads: Threads that one operator may use; None leaves it to onnxruntime.
        providers: Execution providers in order of preference.

    Returns:
        The classifier, with pixels in [0, 1] as they are (integer inputs: over the type's range).

    Raises:
        EngineError: onnxruntime refuses the model.
    """
    artifact = readable(artifact, signature)
    session = open_session(artifact.data, artifact.external, threads=threads, providers=providers)
    return OrtClassifier(session, signature, pixel_normalisation(signature))


def model_input(
    images: NDArray[np.float32], signature: ModelSignature, normalisation: Normalisation
) -> NDArray[np.generic]:
    """Images in pixel units as the model wants them: normalised, in its layout and type.

    Args:
        images: [N, C, H, W], RGB pixels in [0, 1].
        signature: The model's signature.
        normalisation: How pixels become model input.

    Returns:
        Array of the model's own input shape and type.

    Raises:
        ValueError: the images have another shape than the model's.
    """
    channels, height, width = signature.input_shape
    if images.ndim != 4 or images.shape[1:] != (channels, height, width):
        raise ValueError(f"expected images [N, {channels}, {height}, {width}], found {list(images.shape)}")
    factor, offset = (np.array(values, np.float32)[:, None, None] for values in normalisation.affine(channels))
    values = images.astype(np.float32) * factor + offset
    if normalisation.standardise:
        values = standardised(values)
    if normalisation.channel_order == "bgr":
        values = values[:, ::-1]
    if signature.layout in {"NHWC", "NHW"} or (is_flat(signature.layout) and normalisation.pixel_order == "hwc"):
        values = values.transpose(0, 2, 3, 1)
    dtype = np.dtype(signature.dtype)
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return np.ascontiguousarray(values.reshape(signature.model_shape(len(images))), dtype=dtype)


def standardised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images [N, C, H, W] of mean 0 and standard deviation 1 each; a flat one is divided as if its noise were least."""
    mean, variance = (moment(values, axis=(1, 2, 3), keepdims=True) for moment in (np.mean, np.var))
    scaled: NDArray[np.float32] = (values - mean) / np.sqrt(np.maximum(variance, 1 / values[0].size))
    return scaled


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # infinite scores have no posterior, and say so by NaN
def scores_to_posterior(scores: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    """Class probabilities from what a model's output holds.

    Args:
        scores: [N, K], or [N, 1] of a binary classifier.
        kind: "logits", "probabilities", "log_probabilities" or "sigmoids".

    Returns:
        [N, K], rows sum to 1.
    """
    scores = _of_all_classes(scores, kind)
    if kind in {"logits", "log_probabilities"}:
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    posterior: NDArray[np.float64] = scores / scores.sum(axis=1, keepdims=True)
    return posterior


def decided(scores: NDArray[np.float64], kind: str) -> NDArray[np.int64]:
    """Decisions [N] by scores as in `scores_to_posterior`; as in numpy and torch, one that is not a number is largest.

    The largest score is the most probable class, and stays so where no posterior can be computed.
    """
    return np.asarray(_of_all_classes(scores, kind).argmax(axis=1), dtype=np.int64)


def _of_all_classes(scores: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    """Scores [N, K], where one score of two classes is completed."""
    if scores.shape[1] > 1:
        return scores
    return np.concatenate([1 - scores if kind == "sigmoids" else np.zeros_like(scores), scores], axis=1)
