"""Files of exporters other than torch's (made by `benchmarks.exporters.fixtures`) import and agree with onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backscan.converters.errors import NoNetworkError
from backscan.converters.intake.artifact import read_artifact
from backscan.converters.ort_classifier import open_runtime
from backscan.converters.parity.parity import compare
from backscan.converters.signature.signature import ModelSignature, Normalisation, read_signature
from backscan.converters.torch_import.importer import import_model

FIXTURES = Path(__file__).parents[1] / "fixtures"
NAMES = sorted(path.stem for path in FIXTURES.glob("*.onnx"))
WITHOUT_GRADIENT = {"sklearn_tree"}


def opened(name: str):
    artifact = read_artifact(FIXTURES / f"{name}.onnx", max_bytes=1 << 20)
    return artifact, read_signature(artifact)


def expected_of(name: str) -> tuple[str, tuple[int, int, int], int]:
    """Layout, image shape and number of classes, from how the script makes them."""
    return {
        "jax": ("NHWC", (3, 8, 8), 5),
        "keras": ("NHWC", (3, 12, 12), 5),
        "quantised": ("NCHW", (3, 8, 8), 5),
        "sklearn": ("NC", (1, 8, 8), 10),
    }[name.split("_")[0]]


def test_every_exporter_is_there() -> None:
    assert {name.split("_")[0] for name in NAMES} == {"jax", "keras", "quantised", "sklearn"}


@pytest.mark.parametrize("name", NAMES)
def test_signature(name: str) -> None:
    signature: ModelSignature = opened(name)[1]
    assert (signature.layout, signature.input_shape, signature.num_classes) == expected_of(name)
    assert signature.output_kind == "probabilities"
    assert signature.batch == (4 if name == "jax_batch4" else None)
    assert signature.precision == ("quantised" if "quantised" in name else "float")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITHOUT_GRADIENT])
def test_import_agrees_with_onnxruntime(name: str) -> None:
    artifact, signature = opened(name)
    normalisation = Normalisation(high=255.0 if "keras" in name else 1.0)
    ours = import_model(artifact, signature).with_normalisation(normalisation)
    theirs = open_runtime(artifact, signature).with_normalisation(normalisation)
    images = np.random.default_rng(0).random((60, *signature.input_shape), dtype=np.float32)
    report = compare(ours, theirs, images, real_images=False)
    assert report.passed, report.reason
    assert report.decision_agreement == 1
    assert report.gradient_error < (0.3 if signature.precision == "quantised" else 0.1)
    assert ours.head == "logits"
    assert ours.has_surrogates == ("quantised" in name)
    if signature.precision == "float":
        assert report.largest_logit_gap < 1e-5


@pytest.mark.parametrize("name", sorted(WITHOUT_GRADIENT))
def test_trees_are_refused_for_want_of_a_gradient(name: str) -> None:
    artifact, signature = opened(name)
    with pytest.raises(NoNetworkError, match=r"a tree ensemble has no gradient.*TreeEnsembleClassifier decides"):
        import_model(artifact, signature)
