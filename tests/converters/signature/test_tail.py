"""The squashing function that ends a classifier is seen through what follows it, and taken off without a change."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from backscan.converters.intake.artifact import artifact_from_bytes
from backscan.converters.ort_classifier import OrtClassifier, open_runtime
from backscan.converters.parity.parity import ParityReport, compare
from backscan.converters.signature.signature import read_signature
from backscan.converters.signature.tail import find_tail
from backscan.converters.torch_import.classifier import TorchClassifier
from backscan.converters.torch_import.importer import import_model
from tests.converters.signature.test_signature import text_model

CLASSES, PIXELS = 5, 16
WEIGHT = np.random.default_rng(0).normal(size=(PIXELS, CLASSES)).astype(np.float32)
IMAGES = np.random.default_rng(1).random((60, 1, 4, 4), dtype=np.float32)


def both(body: str, *, classes: int = CLASSES, steepness: float = 3.0) -> tuple[TorchClassifier, OrtClassifier]:
    """A linear classifier whose `z` is squashed by `body`."""
    tensors = {
        "m": steepness * WEIGHT,
        "hundred": np.array(100, np.float32),
        "weights": np.array([0.5, 1, 2, 4, 1.5], np.float32),
        "low": np.array(1e-7, np.float32),
        "high": np.array(1 - 1e-7, np.float32),
        "middle": np.array(0.3, np.float32),
        "one": np.array([1], np.int64),
        "end": np.array([CLASSES], np.int64),
        "kept": np.arange(1, CLASSES),
    }
    text = text_model(
        f"f = Flatten(image) z = Gemm(f, m) p = Softmax(z) {body}",
        image="float[N,1,4,4] image",
        outputs=f"float[N,{classes}] scores",
        tensors=tensors,
    )
    artifact = artifact_from_bytes("m.onnx", text)
    signature = read_signature(artifact)
    return import_model(artifact, signature), open_runtime(artifact, signature)


def parity_of(body: str, **options: float) -> tuple[TorchClassifier, ParityReport]:
    ours, theirs = both(body, **options)
    return ours, compare(ours, theirs, IMAGES)


ENDINGS = {
    "a factor": ("scores = Mul(p, hundred)", 5),
    "a factor before it": ("scores = Mul(hundred, p)", 5),
    "a divisor": ("scores = Div(p, hundred)", 5),
    "a factor for each class": ("scores = Mul(p, weights)", 5),
    "a divisor for each class": ("scores = Div(p, weights)", 5),
    "bounds": ("scores = Clip(p, low, high)", 5),
    "bounds one by one": ("a = Max(p, low) scores = Min(a, high)", 5),
    "a small addition": ("scores = Add(p, low)", 5),
    "no background, sliced": ("scores = Slice(p, one, end, one)", 4),
    "no background, gathered": ("scores = Gather <axis = 1> (p, kept)", 4),
    "no background, and a factor": ("a = Slice(p, one, end, one) scores = Mul(a, hundred)", 4),
}


@pytest.mark.parametrize(
    "take",
    [
        "scores = Gather <axis = 1> (p, zero)",
        "a = Slice(p, start, end, one) scores = Flatten(a)",
        "a = Slice(p, start, end, one) scores = Squeeze(a, one)",
        "a, b = Split <axis = 1> (p) scores = Flatten(a)",
    ],
)
def test_one_place_of_a_softmax_over_places_gives_no_probabilities_of_classes(take: str) -> None:
    """As a vision transformer that reads the first of its tokens."""
    graph = parser.parse_graph(f"""
        g (float[N,2,4] tokens) => (float[N,4] scores)
        <int64 zero = {{0}}, int64[1] start = {{0}}, int64[1] end = {{1}}, int64[1] one = {{1}}>
        {{ p = Softmax <axis = 1> (tokens) {take} }}
    """)
    assert find_tail(graph, "scores") is None


@pytest.mark.parametrize("steepness", [3.0, 100.0])
@pytest.mark.parametrize("name", ENDINGS)
def test_probabilities_that_do_not_add_up_to_one(name: str, steepness: float) -> None:
    """At the greater steepness the probabilities of nearly all images are 0 and 1, and the gradient still counts."""
    body, classes = ENDINGS[name]
    images = IMAGES
    ours, theirs = both(body, classes=classes, steepness=steepness)
    if classes < CLASSES:  # where the background wins by far, float32 leaves nothing of the others
        images = IMAGES[(IMAGES.reshape(-1, PIXELS) @ WEIGHT).argmax(axis=1) > 0]
    assert (ours.signature.output_kind, ours.head) == ("probabilities", "logits")
    report = compare(ours, theirs, images)
    assert report.passed, report.reason
    assert report.decision_agreement == 1
    assert report.gradient_error is not None
    assert report.gradient_error < 0.1


@pytest.mark.parametrize("body", ["scores = Clip(p, middle, high)", "scores = Add(p, middle)", "scores = Mul(p, p)"])
def test_what_changes_probabilities_stays(body: str) -> None:
    ours, report = parity_of(body)
    assert ours.head != "sigmoid_logits"
    assert report.largest_logit_gap < 1e-5
    assert "not the model in the file" not in report.reason


def test_a_softmax_over_the_images_gives_no_probabilities() -> None:
    ours, _ = both("y = Softmax <axis = 0> (z) scores = Mul(y, hundred)")
    assert (ours.signature.output_kind, ours.head) == ("logits", "logits")


def test_a_multiple_of_a_sigmoid_is_no_sigmoid() -> None:
    ours, report = parity_of("s = Sigmoid(z) scores = Mul(s, hundred)")
    assert (ours.signature.output_kind, ours.head) == ("logits", "logits")
    assert report.largest_logit_gap < 1e-5


def test_logits_that_happen_to_add_up_to_one_are_logits() -> None:
    """Hardly any weight and a bias of a fifth: on every image the five numbers add up to about 1."""
    tensors = {"m": 1e-4 * WEIGHT, "b": np.full(CLASSES, 1 / CLASSES, np.float32)}
    data = text_model(
        "f = Flatten(image) scores = Gemm(f, m, b)",
        image="float[N,1,4,4] image",
        outputs="float[N,5] scores",
        tensors=tensors,
    )
    assert read_signature(artifact_from_bytes("m.onnx", data)).output_kind == "logits"
