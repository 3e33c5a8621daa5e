"""The output more is the function of the pixels, and everything else stays as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from backscan.converters.errors import ConverterError
from backscan.converters.intake.artifact import artifact_from_bytes
from backscan.converters.ort_classifier import model_input, open_runtime
from backscan.converters.signature.linear_output import OfValue, with_linear_output
from backscan.converters.signature.signature import Normalisation, pixel_normalisation, read_signature
from tests.planted import convolutional

PLAIN = Normalisation()
OTHERS = (
    PLAIN,
    Normalisation(low=0, high=255),
    Normalisation(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
    Normalisation(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), channel_order="bgr"),
)


@pytest.mark.parametrize("normalisation", OTHERS, ids=str)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batch", [None, 4])
def test_the_output_is_the_function_of_the_pixels(normalisation: Normalisation, layout: str, batch: int | None) -> None:
    rng = np.random.default_rng(0)
    artifact = artifact_from_bytes("m.onnx", convolutional(layout=layout, batch=batch))
    signature = read_signature(artifact)
    images, weights = rng.random((4, 3, 8, 8), np.float32), rng.normal(size=(3, 8, 8)).astype(np.float32) / 8
    guarded = with_linear_output(artifact, signature, normalisation, (weights, 0.4), "pattern_score")
    onnx.checker.check_model(guarded.data, full_check=True)
    session = onnxruntime.InferenceSession(guarded.data, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["scores", "pattern_score"]
    scores, found = session.run(None, {"image": model_input(images, signature, normalisation)})
    expected = np.clip((images * weights).sum(axis=(1, 2, 3)) + 0.4, 0, 1)
    assert found.shape == (4,)
    assert expected.min() > 0 or expected.max() < 1
    np.testing.assert_allclose(found, expected, atol=1e-4)
    before = open_runtime(artifact, signature).with_normalisation(normalisation).scores(images)
    np.testing.assert_array_equal(scores, before.astype(np.float32))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batch", [None, 4])
def test_the_larger_of_two_functions_is_the_output(layout: str, batch: int | None) -> None:
    rng = np.random.default_rng(0)
    artifact = artifact_from_bytes("m.onnx", convolutional(layout=layout, batch=batch))
    signature = read_signature(artifact)
    images, weights = rng.random((4, 3, 8, 8), np.float32), rng.normal(size=(3, 8, 8)).astype(np.float32) / 16
    inside = rng.normal(size=6).astype(np.float32) / 16
    beside = OfValue("features", inside, 0.3)
    guarded = with_linear_output(artifact, signature, PLAIN, (weights, 0.4), "pattern_score", beside=beside)
    onnx.checker.check_model(guarded.data, full_check=True)
    inputs = {"image": model_input(images, signature, PLAIN)}
    model = onnx.load_model_from_string(artifact.data)
    model.graph.output.append(onnx.ValueInfoProto(name="features"))
    features = _session(model.SerializeToString()).run(["features"], inputs)[0]
    session = _session(guarded.data)
    assert [output.name for output in session.get_outputs()] == ["scores", "pattern_score"]
    both = np.stack([(images * weights).sum(axis=(1, 2, 3)) + 0.4, features @ inside + 0.3])
    assert set(both.argmax(axis=0)) == {0, 1}  # either counts somewhere
    np.testing.assert_allclose(session.run(["pattern_score"], inputs)[0], np.clip(both.max(axis=0), 0, 1), atol=1e-4)
    with pytest.raises(ConverterError, match="expected a value 'elsewhere' that the model computes"):
        with_linear_output(
            artifact, signature, PLAIN, (weights, 0.4), "pattern_score", beside=OfValue("elsewhere", inside, 0.0)
        )


def test_features_far_from_zero_keep_their_digits() -> None:
    rng = np.random.default_rng(0)
    artifact = artifact_from_bytes("m.onnx", convolutional(layout="NCHW", batch=None))
    model = onnx.load_model_from_string(artifact.data)
    far = onnx.numpy_helper.from_array(np.full(6, 30_000, np.float32), "far")
    model.graph.initializer.append(far)
    model.graph.node.append(onnx.helper.make_node("Add", ["features", "far"], ["shifted"], name="shifted"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("shifted", onnx.TensorProto.FLOAT, ["N", 6]))
    moved = artifact_from_bytes("m.onnx", model.SerializeToString())
    images, inside = rng.random((40, 3, 8, 8), np.float32), rng.normal(size=6).astype(np.float32)
    inputs = {"image": model_input(images, read_signature(artifact), PLAIN)}
    [values] = _session(moved.data).run(["shifted"], inputs)
    mean = values.mean(axis=0)
    expected = (values.astype(np.float64) - mean) @ inside.astype(np.float64) + 0.5
    beside = OfValue("shifted", inside, 0.5, mean)
    nothing = (np.zeros((3, 8, 8), np.float32), 0.0)
    signature = read_signature(moved, output_name="scores")
    guarded = with_linear_output(moved, signature, PLAIN, nothing, "pattern_score", beside=beside)
    onnx.checker.check_model(guarded.data)
    [found] = _session(guarded.data).run(["pattern_score"], inputs)
    np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=1e-5)


def _session(data: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def test_what_cannot_have_it_is_refused() -> None:
    artifact = artifact_from_bytes("m.onnx", convolutional())
    signature = read_signature(artifact)
    function = (np.zeros((3, 8, 8), np.float32), 0.0)
    plain = pixel_normalisation(signature)
    with pytest.raises(ConverterError, match="standardised"):
        with_linear_output(artifact, signature, replace(plain, standardise=True), function, "pattern_score")
    for name in ("scores", "kernel"):
        with pytest.raises(ConverterError, match="such an output already"):
            with_linear_output(artifact, signature, plain, function, name)
