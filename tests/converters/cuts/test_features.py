"""What the last layer reads is found behind softmax and logits, and read as the file computes it."""

from __future__ import annotations

import numpy as np
import pytest

from backscan.converters.cuts import features
from backscan.converters.cuts.features import last_features, read_features
from backscan.converters.intake.artifact import Artifact, artifact_from_bytes
from backscan.converters.ort_classifier import open_runtime
from backscan.converters.signature.signature import Normalisation, read_signature
from tests.planted import convolutional


def artifact_of(data: bytes) -> Artifact:
    return artifact_from_bytes("m.onnx", data)


@pytest.mark.parametrize("head", ["logits", "probabilities", "log_probabilities", "sigmoids"])
@pytest.mark.parametrize("batch", [None, 4])
def test_the_last_layer_reads_the_pooled_features(head: str, batch: int | None) -> None:
    artifact = artifact_of(convolutional(head=head, batch=batch))
    signature = read_signature(artifact)
    assert last_features(artifact, signature) == "features"
    normalisation = Normalisation(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    classifier = open_runtime(artifact, signature).with_normalisation(normalisation)
    images = np.random.default_rng(0).random((6, 3, 8, 8), np.float32)
    name, values = read_features(artifact, classifier, images)
    assert (name, values.shape, values.dtype) == ("features", (6, 6), np.float32)
    if head == "logits":
        import onnx
        from onnx import numpy_helper

        stored = {
            t.name: numpy_helper.to_array(t) for t in onnx.load_model_from_string(artifact.data).graph.initializer
        }
        np.testing.assert_allclose(values @ stored["matrix"] + stored["bias"], classifier.scores(images), atol=1e-4)
    name, values = read_features(artifact, classifier, images[:0])
    assert (name, len(values)) == ("", 0)


def test_a_model_without_features_of_use_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = artifact_of(convolutional())
    signature = read_signature(artifact)
    monkeypatch.setattr(features, "_MOST_FEATURES", 5)
    assert last_features(artifact, signature) is None
    images = np.zeros((2, 3, 8, 8), np.float32)
    name, values = read_features(artifact, open_runtime(artifact, signature), images)
    assert (name, values.shape) == ("", (2, 0))
