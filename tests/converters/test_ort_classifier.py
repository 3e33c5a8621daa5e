"""onnxruntime on the original bytes: model input worked by hand, posteriors, batches, one installation only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata

import numpy as np
import pytest
from onnxruntime import InferenceSession
from scipy.special import expit, softmax

from backscan.converters import session
from backscan.converters.errors import EngineError
from backscan.converters.intake.artifact import artifact_from_bytes
from backscan.converters.ort_classifier import (
    OrtClassifier,
    decided,
    model_input,
    open_runtime,
    scores_to_posterior,
)
from backscan.converters.session import Arrays, open_session, run_session
from backscan.converters.signature.signature import Normalisation, read_signature
from tests import planted
from tests.converters.operators.single_node import model_of


def opened(data: bytes) -> OrtClassifier:
    artifact = artifact_from_bytes("m.onnx", data)
    return open_runtime(artifact, read_signature(artifact), threads=1)


def test_scores_of_a_linear_model_are_the_matrix_product() -> None:
    weight, bias = planted.linear_parameters()
    classifier = opened(planted.linear_softmax())
    images = np.random.default_rng(0).random((5, 1, 6, 6), dtype=np.float32)
    expected = images.reshape(5, -1) @ weight.reshape(4, -1).T + bias
    np.testing.assert_allclose(classifier.scores(images), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(classifier.posterior(images), softmax(expected, axis=1), rtol=1e-4)
    np.testing.assert_array_equal(classifier.decisions(images), expected.argmax(axis=1))
    assert classifier.providers == ("CPUExecutionProvider",)


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_more_images_than_a_call_takes(batch: int | None) -> None:
    images = np.random.default_rng(0).random((700, 1, 6, 6), dtype=np.float32)
    found, expected = (opened(planted.linear_softmax(batch=size)).scores(images) for size in (batch, None))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("side", "most"), [(6, 256), (224, 27), (2048, 1)])
def test_photographs_go_into_a_call_as_memory_takes_them(side: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    signature = replace(read_signature(artifact_from_bytes("m", planted.linear_softmax())), input_shape=(3, side, side))
    assert signature.images_at_once(256) == most
    classifier = opened(planted.linear_softmax())
    monkeypatch.setattr(type(signature), "images_at_once", lambda _, number: min(most, number))
    calls = list[int]()

    def counting(session: InferenceSession, feeds: Arrays, wanted: Sequence[str] = ()) -> Arrays:
        calls.append(len(feeds[classifier.signature.input_name]))
        return run_session(session, feeds, wanted)

    monkeypatch.setattr("backscan.converters.ort_classifier.run_session", counting)
    assert len(classifier.scores(np.zeros((28, 1, 6, 6), np.float32))) == 28
    assert max(calls) == min(most, 28)
    assert sum(calls) == 28


def test_model_input_in_every_layout() -> None:
    signature = read_signature(artifact_from_bytes("m", planted.linear_softmax(image_shape=(3, 2, 2), layout="NHWC")))
    images = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2) / 12
    normalisation = Normalisation(high=12.0, mean=(1.0, 0.0, 0.0), std=(1.0, 2.0, 1.0), channel_order="bgr")
    found = model_input(images, signature, normalisation)
    assert found.shape == (1, 2, 2, 3)
    # Pixel (0, 0) is red 0, green 4, blue 8; the model's first channel is blue, less its mean 1.
    np.testing.assert_allclose(found[0, 0, 0], [7.0, 2.0, 0.0], atol=1e-5)


@pytest.mark.parametrize("kind", planted.HEADS)
def test_posterior_of_every_kind(kind: str) -> None:
    logits = np.random.default_rng(0).normal(size=(6, 4))
    scores, expected = {
        "logits": (logits, softmax(logits, axis=1)),
        "probabilities": (softmax(logits, axis=1), softmax(logits, axis=1)),
        "log_probabilities": (np.log(softmax(logits, axis=1)), softmax(logits, axis=1)),
        "sigmoids": (expit(logits), expit(logits) / expit(logits).sum(axis=1, keepdims=True)),
    }[kind]
    np.testing.assert_allclose(scores_to_posterior(scores, kind), expected, rtol=1e-12)


def test_posterior_of_one_score_is_of_two_classes() -> None:
    logit = np.array([[-2.0], [3.0]])
    expected = np.concatenate([expit(-logit), expit(logit)], axis=1)
    np.testing.assert_allclose(scores_to_posterior(logit, "logits"), expected)
    np.testing.assert_allclose(scores_to_posterior(expit(logit), "sigmoids"), expected)


def test_a_model_that_onnxruntime_refuses() -> None:
    with pytest.raises(EngineError, match="cannot open the model"):
        open_session(b"no model")


@pytest.mark.parametrize("installed", [(), ("onnxruntime", "onnxruntime-gpu")])
def test_exactly_one_onnxruntime_must_be_installed(installed, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(metadata, "version", version)
    session._onnxruntime.cache_clear()
    with pytest.raises(EngineError, match=r"expected exactly one of onnxruntime .* install the extra"):
        open_session(planted.linear_softmax())
    monkeypatch.undo()
    session._onnxruntime.cache_clear()


def test_products_of_8_bit_numbers_are_exact_on_every_processor() -> None:
    """A stored weight at both ends of its range; x86 without VNNI saturates it unless told not to."""
    values, weight = np.full((1, 64), 255, np.uint8), np.full((64, 1), 127, np.int8)
    model = model_of("MatMulInteger", ["x", "w"], {"x": values}, {"w": weight})
    session = open_session(model.SerializeToString(), threads=1)
    assert run_session(session, {"x": values})["out_0"].item() == 64 * 255 * 127


def test_a_model_without_an_exact_kernel_is_opened_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    """For signed inputs onnxruntime has no exact kernel on x86 without VNNI, and would refuse the model."""
    values, weight = np.full((1, 4), 3, np.int8), np.full((4, 1), 5, np.int8)
    step, origin = np.float32(1), np.int8(0)
    constants = {"xs": step, "xz": origin, "w": weight, "ws": step, "wz": origin, "ys": step, "yz": origin}
    constants = {name: np.asarray(value) for name, value in constants.items()}
    model = model_of("QLinearMatMul", ["x", *constants], {"x": values}, constants, opset=13)
    session = open_session(model.SerializeToString(), threads=1)
    assert run_session(session, {"x": values})["out_0"].item() == 60
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["logits", "probabilities", "log_probabilities"])
def test_a_decision_is_the_largest_score_even_if_no_posterior_can_be_computed(kind: str) -> None:
    scores = np.array([[1.0, np.nan, 5.0], [1.0, 3.0, np.inf], [0.1, 0.3, 0.2]])
    np.testing.assert_array_equal(decided(scores, kind), [1, 2, 1])


def test_one_score_decides_between_two_classes() -> None:
    np.testing.assert_array_equal(decided(np.array([[-0.1], [0.1], [np.nan]]), "logits"), [0, 1, 1])
    np.testing.assert_array_equal(decided(np.array([[0.4], [0.6]]), "sigmoids"), [0, 1])
