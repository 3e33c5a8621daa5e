"""Models of one image without a batch axis: called one image at a time, and the digest stays the file's own."""

from __future__ import annotations

import numpy as np
import pytest

from backscan.converters.cuts.candidates import cut_candidates
from backscan.converters.errors import SignatureError
from backscan.converters.intake.artifact import artifact_from_bytes
from backscan.converters.ort_classifier import open_runtime
from backscan.converters.parity.parity import compare
from backscan.converters.signature.readable import readable
from backscan.converters.signature.signature import read_signature
from backscan.converters.torch_import.importer import import_model
from tests.converters.signature.test_signature import text_model

CLASSES = 5
BODY = "row = Reshape(image, flat) z = Gemm(row, m) scores = Squeeze(z, first)"


def alone(sizes: tuple[int, ...], *, body: str = BODY, outputs: str = "float[5] scores") -> bytes:
    """A linear classifier of one image of such sizes."""
    pixels = int(np.prod(sizes))
    tensors = {
        "m": np.random.default_rng(0).normal(size=(pixels, CLASSES)).astype(np.float32),
        "flat": np.array([1, pixels], np.int64),
        "first": np.array([0], np.int64),
    }
    return text_model(body, image=f"float[{','.join(map(str, sizes))}] image", outputs=outputs, tensors=tensors)


@pytest.mark.parametrize(
    ("sizes", "layout", "shape"),
    [
        ((8, 8), "NHW", (1, 8, 8)),
        ((8, 8, 1), "NHWC", (1, 8, 8)),
        ((1, 8, 8), "NHW", (1, 8, 8)),
        ((3, 8, 8), "NCHW", (3, 8, 8)),
        ((8, 8, 3), "NHWC", (3, 8, 8)),
        ((64,), "NC", (1, 8, 8)),
    ],
)
def test_an_image_without_a_batch_axis(sizes: tuple[int, ...], layout: str, shape: tuple[int, int, int]) -> None:
    artifact = artifact_from_bytes("m.onnx", alone(sizes))
    signature = read_signature(artifact)
    assert (signature.layout, signature.input_shape, signature.batch) == (layout, shape, 1)
    assert signature.num_classes == CLASSES
    has_batch = sizes == (1, 8, 8)
    assert signature.through_copy is not has_batch
    assert any("no batch axis" in note for note in signature.notes) is not has_batch
    images = np.random.default_rng(1).random((12, *shape), dtype=np.float32)
    runtime = open_runtime(artifact, signature)
    rows = images if layout != "NHWC" else images.transpose(0, 2, 3, 1)
    weight = np.random.default_rng(0).normal(size=(int(np.prod(sizes)), CLASSES)).astype(np.float32)
    np.testing.assert_allclose(runtime.scores(images), rows.reshape(12, -1) @ weight, rtol=1e-4, atol=1e-4)
    report = compare(import_model(artifact, signature), runtime, images)
    assert report.passed, report.reason


def test_the_copy_keeps_the_digest_and_is_made_once() -> None:
    artifact = artifact_from_bytes("m.onnx", alone((8, 8)))
    signature = read_signature(artifact)
    copy = readable(artifact, signature)
    assert copy.sha256 == artifact.sha256
    assert copy.data != artifact.data
    assert readable(copy, signature) == copy
    assert [cut.operator for cut in cut_candidates(copy, signature)][-1:] == ["Gemm"]


def test_the_scores_inside_a_model_without_a_batch_axis() -> None:
    body = BODY.replace("scores =", "y =") + " label = ArgMax <axis = 0> (y)"
    artifact = artifact_from_bytes("m.onnx", alone((8, 8), body=body, outputs="int64[1] label"))
    signature = read_signature(artifact)
    assert (signature.output_name, len(signature.notes)) == ("y", 2)
    images = np.random.default_rng(1).random((3, 1, 8, 8), dtype=np.float32)
    assert open_runtime(artifact, signature).scores(images).shape == (3, CLASSES)


def test_rows_of_numbers_with_an_answer_each_have_a_batch_axis() -> None:
    body = "scores = Gemm(image, m)"
    tensors = {"m": np.ones((40, 3), np.float32)}
    data = text_model(body, image="float[40,40] image", outputs="float[40,3] scores", tensors=tensors)
    with pytest.raises(SignatureError, match="flat vector of 40 values"):
        read_signature(artifact_from_bytes("m.onnx", data))
