"""A file that acts on a score leaves all other images alone, and does with suspicious ones what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from backscan.converters.errors import ConverterError
from backscan.converters.intake.artifact import Artifact, artifact_from_bytes
from backscan.converters.ort_classifier import model_input, open_runtime
from backscan.converters.signature.enforced import Reaction, with_reaction
from backscan.converters.signature.linear_output import with_linear_output
from backscan.converters.signature.signature import Normalisation, read_signature
from tests.planted import convolutional

SCORE = "pattern_score"
OTHER = Normalisation(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), channel_order="bgr")
RNG = np.random.default_rng(0)
IMAGES = RNG.random((4, 3, 8, 8), np.float32)
WEIGHTS = RNG.normal(size=(3, 8, 8)).astype(np.float32) / 8
SCORES = np.clip((IMAGES * WEIGHTS).sum(axis=(1, 2, 3)) + 0.4, 0, 1)
THRESHOLD = float(np.sort(SCORES)[1:3].mean())
SUSPICIOUS = SCORES > THRESHOLD


def acting(artifact: Artifact, normalisation: Normalisation, reaction: Reaction) -> onnxruntime.InferenceSession:
    signature = read_signature(artifact)
    scoring = with_linear_output(artifact, signature, normalisation, (WEIGHTS, 0.4), SCORE)
    made = with_reaction(scoring, signature, normalisation, reaction)
    onnx.checker.check_model(made.data, full_check=True)
    return onnxruntime.InferenceSession(made.data, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("layout", "batch"), [("NCHW", None), ("NHWC", None), ("NCHW", 4)])
@pytest.mark.parametrize("normalisation", [Normalisation(low=0, high=255), OTHER], ids=str)
def test_the_pattern_is_taken_off_suspicious_images_alone(
    normalisation: Normalisation, layout: str, batch: int | None
) -> None:
    artifact = artifact_from_bytes("m.onnx", convolutional(layout=layout, batch=batch))
    kept = (RNG.random((3, 8, 8)) > 0.3).astype(np.float32)
    added = (RNG.normal(size=(3, 8, 8)) * 0.3).astype(np.float32)
    session = acting(artifact, normalisation, Reaction(SCORE, THRESHOLD, kept, added))
    signature = read_signature(artifact)
    scores, found = session.run(None, {"image": model_input(IMAGES, signature, normalisation)})
    np.testing.assert_allclose(found, SCORES, atol=1e-4)  # of the image as it came
    assert 0 < SUSPICIOUS.sum() < 4
    changed = np.where(SUSPICIOUS[:, None, None, None], IMAGES * kept + added, IMAGES).astype(np.float32)
    runtime = open_runtime(artifact, signature).with_normalisation(normalisation)
    np.testing.assert_allclose(scores, runtime.scores(changed), rtol=1e-4, atol=1e-4)
    before = runtime.scores(IMAGES)
    np.testing.assert_array_equal(scores[~SUSPICIOUS], before[~SUSPICIOUS].astype(np.float32))
    assert np.abs(scores - before)[SUSPICIOUS].max() > 1e-3


@pytest.mark.parametrize("shares", [False, True])
def test_a_class_more_rejects_suspicious_images_alone(shares: bool) -> None:
    model = onnx.load_model_from_string(convolutional())
    if shares:
        model.graph.node[-1].output[0] = "plain"
        model.graph.node.append(onnx.helper.make_node("Softmax", ["plain"], ["scores"], axis=1))
    artifact = artifact_from_bytes("m.onnx", model.SerializeToString())
    session, signature = acting(artifact, Normalisation(), Reaction(SCORE, THRESHOLD)), read_signature(artifact)
    scores, _ = session.run(None, {"image": IMAGES})
    before = open_runtime(artifact, signature).scores(IMAGES)
    num_classes = before.shape[1]
    assert scores.shape == (4, num_classes + 1)
    assert session.get_outputs()[0].shape[1] == num_classes + 1
    assert (scores[SUSPICIOUS].argmax(axis=1) == num_classes).all()
    np.testing.assert_array_equal(scores[~SUSPICIOUS, :-1], before[~SUSPICIOUS].astype(np.float32))
    assert (scores[~SUSPICIOUS].argmax(axis=1) == before[~SUSPICIOUS].argmax(axis=1)).all()
    if shares:
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)


def test_whole_pixels_are_rounded_and_stay_in_range() -> None:
    model = onnx.load_model_from_string(convolutional())
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    for node in model.graph.node:
        node.input[:] = ["floats" if name == "image" else name for name in node.input]
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["image"], ["floats"], to=onnx.TensorProto.FLOAT))
    artifact, reading = artifact_from_bytes("m.onnx", model.SerializeToString()), Normalisation(low=0, high=255)
    added = np.full((3, 8, 8), -0.5, np.float32)
    session = acting(artifact, reading, Reaction(SCORE, -1.0, np.ones_like(added), added))
    signature = read_signature(artifact)
    given = model_input(IMAGES, signature, reading)
    expected = np.clip(np.round(given - 127.5 + 1e-3), 0, 255).astype(np.uint8)
    plain = onnxruntime.InferenceSession(artifact.data, providers=["CPUExecutionProvider"])
    (wanted,) = plain.run(["scores"], {"image": expected})
    np.testing.assert_allclose(session.run(["scores"], {"image": given})[0], wanted, rtol=0.02, atol=2.0)


def test_what_cannot_act_is_refused() -> None:
    artifact = artifact_from_bytes("m.onnx", convolutional())
    signature = read_signature(artifact)
    with pytest.raises(ConverterError, match="exclude each other"):
        with_reaction(artifact, replace(signature, output_kind="sigmoids"), Normalisation(), Reaction(SCORE, 0.5))
    model = onnx.load_model_from_string(artifact.data)
    model.graph.output.append(model.graph.input[0])
    both = artifact_from_bytes("m.onnx", model.SerializeToString())
    taking = Reaction(SCORE, 0.5, np.ones((3, 8, 8), np.float32), np.zeros((3, 8, 8), np.float32))
    with pytest.raises(ConverterError, match="no output"):
        with_reaction(both, signature, Normalisation(), taking)
    model.opset_import[0].version = 8
    with pytest.raises(ConverterError, match="opset 9"):
        with_reaction(artifact_from_bytes("m.onnx", model.SerializeToString()), signature, Normalisation(), taking)
