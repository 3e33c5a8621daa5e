"""What the last layer of a classifier reads of images: a row of features that the graph computes already."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from backscan.converters.cuts.candidates import cut_candidates
from backscan.converters.errors import border
from backscan.converters.intake.artifact import Artifact
from backscan.converters.ort_classifier import OrtClassifier, open_runtime
from backscan.converters.signature.additions import with_outputs
from backscan.converters.signature.signature import ModelSignature

_MOST_FEATURES = 4096
"""More are no longer a cheap product beside the model, and need more images than people have."""


def last_features(artifact: Artifact, signature: ModelSignature) -> str | None:
    """Name of the last value that all of the image passes through and that is not one number for each score.

    Args:
        artifact: The model, external data included.
        signature: Its signature.

    Returns:
        The name; None where there is no such value or it has more than 4096 numbers an image.

    Raises:
        ArtifactError: the model cannot be parsed.
        EngineError: onnxruntime cannot run it.
    """
    for cut in reversed(cut_candidates(artifact, signature)):
        size = prod(cut.shape)
        if size > _MOST_FEATURES:
            return None
        if size > 1 and size != signature.num_scores:  # logits, and what a softmax makes of them
            return cut.name
    return None


@border("reading what the last layer sees")
def read_features(
    artifact: Artifact, classifier: OrtClassifier, images: NDArray[np.float32], *, threads: int | None = None
) -> tuple[str, NDArray[np.float32]]:
    """What the last layer reads of images.

    Args:
        artifact: The model.
        classifier: It, opened; says how pixels become its input.
        images: [N, C, H, W], RGB pixels in [0, 1].
        threads: Threads that one operator may use; None leaves it to onnxruntime.

    Returns:
        The value's name, and float32 [N, F]; an empty name and [N, 0] where the model has none.

    Raises:
        ConverterError: the model cannot be read there.
    """
    signature = classifier.signature
    name = last_features(artifact, signature)
    if name is None or not len(images):
        return "", np.zeros((len(images), 0), np.float32)
    opened = open_runtime(with_outputs(artifact, [name]), signature, threads=threads)
    values = opened.with_normalisation(classifier.normalisation).read(images, name)
    return name, values.reshape(len(images), -1).astype(np.float32)
