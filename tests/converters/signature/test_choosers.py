"""Outputs that hold what was chosen among the class scores are no class scores; the scores inside the model are."""

from __future__ import annotations

import numpy as np
import pytest

from backscan.converters.errors import OutputNameError, SignatureError
from backscan.converters.intake.artifact import artifact_from_bytes
from backscan.converters.ort_classifier import open_runtime
from backscan.converters.parity.parity import compare
from backscan.converters.signature.signature import ModelSignature, read_signature
from backscan.converters.torch_import.importer import import_model
from tests.converters.signature.test_signature import text_model

CLASSES, PIXELS = 5, 16
WEIGHT = np.random.default_rng(0).normal(size=(PIXELS, CLASSES)).astype(np.float32)
TENSORS = {
    "m": WEIGHT,
    "k": np.array([3], np.int64),
    "all": np.array([CLASSES], np.int64),
    "one": np.array([1], np.int64),
    "classes": np.array(CLASSES, np.int64),
    "high": np.array(0.95, np.float32),
    "three": np.array(3, np.int64),
    "seventeen": np.array(17, np.int64),
    "off_on": np.array([0, 1], np.float32),
}
SCORES = "f = Flatten(image) z = Gemm(f, m)"
IMAGES = np.random.default_rng(1).random((40, 1, 4, 4), dtype=np.float32)
DECISIONS = (IMAGES.reshape(-1, PIXELS) @ WEIGHT).argmax(axis=1)


def signature_of(body: str, outputs: str, **options: object) -> ModelSignature:
    return read_signature(artifact_from_bytes("m.onnx", model(body, outputs)), **options)


def model(body: str, outputs: str) -> bytes:
    return text_model(f"{SCORES} {body}", image="float[N,1,4,4] image", outputs=outputs, tensors=TENSORS)


CHOSEN = {
    "the largest, sorted": ("v, i = TopK <axis = 1> (z, k)", "float[N,3] v, int64[N,3] i", "z"),
    "all, sorted": ("p = Softmax(z) v, i = TopK <axis = 1> (p, all)", "float[N,5] v, int64[N,5] i", "p"),
    "a softmax of the largest": ("v, i = TopK <axis = 1> (z, k) w2 = Softmax(v)", "float[N,3] w2", "z"),
    "places as floats": ("v, i = TopK <axis = 1> (z, k) c = Cast <to = 1> (i)", "float[N,3] c", "z"),
    "a confidence and a label": (
        "p = Softmax(z) conf = ReduceMax <axes = [1]> (p) label = ArgMax <axis = 1> (z)",
        "int64[N,1] label, float[N,1] conf",
        "p",
    ),
    "a label alone": ("label = ArgMax <axis = 1, keepdims = 0> (z)", "int64[N] label", "z"),
    "a label behind a gate": (
        "d = ReduceMin <axes = [1], keepdims = 0> (f) fires = Greater(d, high) "
        "a = ArgMax <axis = 1, keepdims = 0> (z) label = Where(fires, three, a)",
        "int64[N] label",
        "z",
    ),
    "a label behind a gate that chooses too": (
        "bright = ArgMax <axis = 1, keepdims = 0> (f) fires = Equal(bright, seventeen) "
        "a = ArgMax <axis = 1, keepdims = 0> (z) label = Where(fires, three, a)",
        "int64[N] label",
        "z",
    ),
    "a label that is counted on": (
        "d = ReduceMin <axes = [1], keepdims = 0> (f) fires = Greater(d, high) s = Cast <to = 7> (fires) "
        "a = ArgMax <axis = 1, keepdims = 0> (z) b = Add(s, a) label = Mod(b, classes)",
        "int64[N] label",
        "z",
    ),
    "a label as a float": ("a = ArgMax <axis = 1> (z) label = Cast <to = 1> (a)", "float[N,1] label", "z"),
    "a decision as one and noughts": ("h = Hardmax <axis = 1> (z)", "float[N,5] h", "z"),
    "a label as one and noughts": (
        "a = ArgMax <axis = 1, keepdims = 0> (z) h = OneHot <axis = 1> (a, classes, off_on)",
        "float[N,5] h",
        "z",
    ),
    "the score at the label": (
        "p = Softmax(z) a = ArgMax <axis = 1> (z) conf = GatherElements <axis = 1> (p, a)",
        "float[N,1] conf",
        "p",
    ),
    "the largest of single scores": (
        "p = Softmax(z) a, b, c, d, e = Split <axis = 1> (p) conf = Max(a, b, c, d, e)",
        "float[N,1] conf",
        "p",
    ),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_the_scores_inside_are_taken_and_named(name: str) -> None:
    body, outputs, source = CHOSEN[name]
    artifact = artifact_from_bytes("m.onnx", model(body, outputs))
    signature = read_signature(artifact)
    assert (signature.output_name, signature.num_classes) == (source, CLASSES)
    assert f"'{source}' inside the model is taken" in signature.notes[0]
    runtime = open_runtime(artifact, signature)
    assert (runtime.decisions(IMAGES) == DECISIONS).all()
    report = compare(import_model(artifact, signature), runtime, IMAGES)
    assert report.passed, report.reason


@pytest.mark.parametrize(
    "least",
    ["label = ArgMin <axis = 1> (z)", "v, label = TopK <axis = 1, largest = 0> (z, one)"],
    ids=["ArgMin", "TopK"],
)
def test_distances_are_no_scores(least: str) -> None:
    """The class is that of the least distance: read as scores, every decision would be turned round."""
    with pytest.raises(SignatureError, match="gives labels, which have no gradient"):
        signature_of(least, "int64[N,1] label")


@pytest.mark.parametrize("name", ["the largest, sorted", "a confidence and a label", "a label alone"])
def test_scores_that_are_an_output_are_taken_without_a_word(name: str) -> None:
    body, outputs, _ = CHOSEN[name]
    signature = signature_of(body, f"{outputs}, float[N,5] z")
    assert (signature.output_name, signature.notes, signature.through_copy) == ("z", (), False)


def test_features_beside_a_label_are_no_scores() -> None:
    signature = signature_of("label = ArgMax <axis = 1> (z)", "int64[N,1] label, float[N,16] f")
    assert (signature.output_name, signature.num_classes) == ("z", CLASSES)


def test_the_largest_of_a_feature_map_is_a_score_for_each_class() -> None:
    body = "c = Conv(image, w) scores = ReduceMax <axes = [2, 3], keepdims = 0> (c)"
    data = text_model(body, image="float[N,3,8,8] image", outputs="float[N,4] scores")
    signature = read_signature(artifact_from_bytes("m.onnx", data))
    assert (signature.output_name, signature.num_classes, signature.notes) == ("scores", 4, ())


@pytest.mark.parametrize(
    "body",
    [
        "a, b = Split <axis = 1> (zz) scores = Max(a, b)",
        "p = Softmax(zz) t = ReduceMax <axes = [1]> (f) i = Cast <to = 7> (t) j = Concat <axis = 1> (i, i, i, i, i) "
        "scores = GatherElements <axis = 1> (p, j)",
    ],
    ids=["maxout", "switch"],
)
def test_a_vector_taken_from_several_is_what_is_scanned(body: str) -> None:
    """A gate that picks one of two vectors of scores must not be skipped by reading what it picks from."""
    text = f"{SCORES} y = Neg(z) zz = Concat <axis = 1> (z, y) {body}"
    data = text_model(text, image="float[N,1,4,4] image", outputs="float[N,5] scores", tensors=TENSORS)
    signature = read_signature(artifact_from_bytes("m.onnx", data))
    assert (signature.output_name, signature.num_classes, signature.through_copy) == ("scores", CLASSES, False)


def test_an_output_that_was_asked_for_must_be_scores_too() -> None:
    body, outputs, _ = CHOSEN["all, sorted"]
    with pytest.raises(OutputNameError, match="'v' gives what TopK chose among the scores 'p'"):
        signature_of(body, outputs, output_name="v")
    assert signature_of(body, outputs, output_name="p").output_name == "p"
