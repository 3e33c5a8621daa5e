"""The detector of the last layer and of noise: against scipy, a planted class, and its level on normal numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy import stats

from backscan.converters import artifact_from_bytes, import_model, read_signature
from backscan.scanner.config import ScanConfig
from backscan.scanner.detectors import Examination, head
from backscan.scanner.inference.target_test import against_others, target_test
from backscan.scanner.results import PairStatus, TargetResult
from tests import planted

CONFIG = ScanConfig(threads=1, bootstrap_draws=999)
CLASSES = 6
WEIGHT, BIAS = planted.linear_parameters(CLASSES, (1, 5, 5), seed=3)
WEIGHT[2] += 0.5
FILTERS = np.random.default_rng(1).normal(size=(4, 1, 3, 3)).astype(np.float32)
LAST = np.random.default_rng(2).normal(size=(5, 4)).astype(np.float32)


def network(*, positive: bool) -> bytes:
    """A convolution, a ReLU or nothing, a pool and a last layer with weights `LAST`."""
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "filters"], ["maps"]),
        node("Relu" if positive else "Identity", ["maps"], ["on"]),
        node("GlobalAveragePool", ["on"], ["pool"]),
        node("Flatten", ["pool"], ["flat"]),
        node("Gemm", ["flat", "last"], ["scores"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 5, 5])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(FILTERS, "filters"), numpy_helper.from_array(LAST, "last")],
    )
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return data


def examination(**options: object) -> Examination:
    """A linear model of 25 pixels whose class 2 likes bright images."""
    artifact = artifact_from_bytes("m.onnx", planted.linear_softmax(parameters=(WEIGHT, BIAS)))
    classifier = import_model(artifact, read_signature(artifact))
    return Examination(
        classifier=classifier,
        images_by_class={},
        decisions_by_class={},
        num_classes=CLASSES,
        config=replace(CONFIG, **options),
        stopped=lambda: False,
    )


def results(weights: np.ndarray | None, scores: np.ndarray | None) -> list[TargetResult]:
    return [
        TargetResult(
            "head",
            label,
            PairStatus.REACHED,
            None if weights is None else float(weights[label]),
            None,
            0,
            score_on_noise=None if scores is None else float(scores[label]),
        )
        for label in range(len(weights if weights is not None else scores))
    ]


def test_comparison_with_the_others_is_that_of_the_test_of_targets():
    values = np.random.default_rng(0).normal(size=(3, 9)) * 10 + 5
    t = against_others(values)
    for row, found in zip(values, t, strict=True):
        np.testing.assert_allclose(found, target_test(row).t, rtol=1e-9)
        assert against_others(row).tolist() == target_test(row).t.tolist()
    assert against_others(np.ones((1, 4))).tolist() == [[0.0] * 4]
    assert against_others(np.array([1e9, 1.0, 2.0, 3.0, 4.0]))[0] == pytest.approx(
        (1e9 - 2.5) / np.sqrt(2.5 / 1.5 * 1.25)
    )
    np.testing.assert_allclose(head.fisher(t[None])[0], -2 * stats.t.logsf(t, 7).sum(axis=0))


def test_scores_on_noise_are_the_means_of_a_linear_model():
    """Uniform noise has the mean .5, so that the mean score of a class is its bias and half of its weights."""
    given = examination()
    found = np.array([entry.score_on_noise for entry in head.search(given)])
    expected = (WEIGHT.reshape(CLASSES, -1) / 2).sum(axis=1) + BIAS
    centred = WEIGHT.reshape(CLASSES, -1) - WEIGHT.reshape(CLASSES, -1).mean(axis=0)
    error = np.sqrt((centred**2).sum(axis=1) / 12 / 200)  # of the mean of 200 images of uniform pixels
    assert (np.abs(found - (expected - expected.mean())) < 4 * error).all()
    assert error.max() < 0.2
    assert found.tolist() == [entry.score_on_noise for entry in head.search(given)]
    assert head.infer(tuple(head.search(given)), CONFIG, CLASSES).target == 2


@pytest.mark.parametrize("positive", [True, False])
def test_mean_weights_count_where_features_are_not_negative(positive):
    """The layer behind the pooled features of a convolution, which a ReLU has left positive or nothing has."""
    artifact = artifact_from_bytes("m.onnx", network(positive=positive))
    signature = read_signature(artifact)
    given = replace(examination(), classifier=import_model(artifact, signature), num_classes=5)
    found = list(head.search(given))
    if positive:
        np.testing.assert_allclose([entry.value for entry in found], LAST.mean(axis=1), rtol=1e-5)
    else:
        assert {entry.value for entry in found} == {None}
    told = head.infer(found, CONFIG, 5).remarks
    assert ("only noise" in told[-1]) is not positive


def test_a_layer_that_is_the_whole_model_and_not_behind_a_relu_counts_as_its_pixels_do():
    """A linear model of pixels, which are never negative either."""
    given = examination()
    weights = WEIGHT.reshape(CLASSES, -1).mean(axis=1)
    np.testing.assert_allclose([entry.value for entry in head.search(given)], weights, rtol=1e-4)


def test_level_on_normal_numbers_and_power_on_a_class_that_stands_out():
    """Of 300 models without an attack 15 are expected at .05, and 27 at most in all but one case of a thousand."""
    rng = np.random.default_rng(1)
    p_values = []
    for _ in range(300):
        weights, scores = rng.normal(size=(2, 10)) * [[3.0], [0.1]] + 7
        p_values.append(
            head.infer(results(weights, scores), replace(CONFIG, bootstrap_draws=199), 10).calibrated_p_value
        )
    assert 5 <= sum(p <= 0.05 for p in p_values) <= 27
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    weights[4] += 15
    scores[4] += 0.5
    found = head.infer(results(weights, scores), CONFIG, 10)
    assert (found.target, found.decides, found.detected) == (4, False, False)
    assert found.calibrated_p_value is not None
    assert found.calibrated_p_value <= 0.01
    assert found.p_value == pytest.approx(found.calibrated_p_value, rel=0.5, abs=0.002)


@pytest.mark.parametrize(("weights", "scores"), [(None, np.arange(3.0)), (np.full(8, np.nan), None)])
def test_too_little_is_said(weights, scores):
    """Three classes, and a model of which nothing could be read."""
    found = results(weights, scores)
    if scores is None:
        found = [replace(entry, value=None) for entry in found]
    said = head.infer(found, CONFIG, len(found))
    assert (said.p_value, said.target, said.values, len(said.remarks)) == (None, None, (), 1)


def test_noise_that_takes_too_long_is_left_out(monkeypatch):
    monkeypatch.setattr(head, "_MOST_SECONDS", -1.0)
    assert {entry.score_on_noise for entry in head.search(examination())} == {None}
    stopped = replace(examination(), stopped=lambda: True)
    assert {entry.score_on_noise for entry in head.search(stopped)} == {None}
