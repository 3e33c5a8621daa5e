"""Larger windows: what smaller ones show a part of is found, and none is searched where none is large enough."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from backscan.converters import artifact_from_bytes, import_model, read_signature
from backscan.scanner.config import ScanConfig
from backscan.scanner.detectors import RATE_DETECTORS, Examination, large_window, window
from backscan.scanner.inference.agreement import correlation_of
from backscan.scanner.inference.target_test import target_test
from backscan.scanner.results import TARGET_RATE, TargetResult

NUM_CLASSES, SHAPE, SIDE, CORNER, TARGET = 6, (1, 20, 20), 5, (9, 4), 4
CONFIG = ScanConfig(preprocess="none", bootstrap_draws=199, sandbox=False, threads=1, device="cpu")
# Contrast of the patch that must be there before it turns the decision: within the range of the images more than the
# nine pixels of a window of 3 x 3 can have, and half of what 25 have.
_SEEN, _GAIN = 5.0, 10.0


def looks() -> np.ndarray:
    """What each class looks like, +1 or -1, [K, C, H, W]."""
    return np.random.default_rng(5).choice([-1.0, 1.0], size=(NUM_CLASSES, *SHAPE)).astype(np.float32)


def patch() -> np.ndarray:
    """A chessboard of +1 and -1 at its place, 0 elsewhere, [C, H, W]."""
    found = np.zeros(SHAPE, np.float32)
    row, column = CORNER
    found[0, row : row + SIDE, column : column + SIDE] = 1.0 - 2.0 * (np.indices((SIDE, SIDE)).sum(axis=0) % 2)
    return found


def attacked(gain: float) -> bytes:
    """Scores by the looks of the classes, and a gain for the target once more of the patch is there than a part."""
    own, planted = looks().reshape(NUM_CLASSES, -1), patch().reshape(1, -1)
    own[:, planted[0] != 0.0] = 0.0
    own[TARGET] += (gain > 0.0) * planted[0]
    gains = np.zeros((1, NUM_CLASSES), np.float32)
    gains[0, TARGET] = gain
    # Of images in [0, 1] the patch gives 2 x - 1 = +1 or -1 at each of its pixels: 2 w x - sum(w) there.
    weights = {
        "W": own.T,
        "c": -own.sum(axis=1) / 2,
        "P": 2 * planted.T,
        "d": -planted.sum(axis=1) - _SEEN,
        "G": gains,
    }
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "W", "c"], ["looks"]),
        helper.make_node("Gemm", ["flat", "P", "d"], ["seen"]),
        helper.make_node("Relu", ["seen"], ["fires"]),
        helper.make_node("MatMul", ["fires", "G"], ["gain"]),
        helper.make_node("Add", ["looks", "gain"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "attacked",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *SHAPE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", NUM_CLASSES])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    return model.SerializeToString()


def examination(gain: float) -> Examination:
    artifact = artifact_from_bytes("m.onnx", attacked(gain))
    classifier = import_model(artifact, read_signature(artifact))
    rng = np.random.default_rng(6)
    by_class = {}
    for label, look in enumerate(looks()):
        faint = rng.uniform(0.005, 0.06, (60, 1, 1, 1))
        images = np.clip(0.5 + faint * look + 0.05 * rng.normal(size=(60, *SHAPE)), 0, 1)
        by_class[label] = torch.from_numpy(images.astype(np.float32))
    with torch.no_grad():
        decisions = {label: classifier.log_posterior(own).argmax(dim=1) for label, own in by_class.items()}
    return Examination(classifier, by_class, decisions, NUM_CLASSES, CONFIG, lambda: False)


@cache
def found(name: str, gain: float) -> dict[int, TargetResult]:
    return {entry.target: entry for entry in RATE_DETECTORS[name].search(examination(gain))}


def values(results: dict[int, TargetResult]) -> list[float]:
    return [entry.value or 0.0 for _, entry in sorted(results.items())]


def test_a_patch_larger_than_the_windows_stands_out_in_the_larger_one_alone() -> None:
    small, large = (found(name, _GAIN) for name in ("window", "large-window"))
    assert [{entry.support.side for entry in each.values() if entry.support} for each in (small, large)] == [{3}, {5}]
    assert target_test(values(small)).p_value > 0.5
    test = target_test(values(large))
    assert (test.order[0], test.p_value) == (TARGET, pytest.approx(0.0, abs=1e-4))
    assert large[TARGET].rate == 1.0


def test_without_the_patch_no_target_stands_out() -> None:
    assert target_test(values(found("large-window", 0.0))).p_value > 0.2


def test_sides_lie_above_the_first_of_smaller_windows_and_below_a_quarter() -> None:
    known = {side: (large_window.sides(side, side), large_window.first_side(side, side)) for side in (8, 28, 32, 224)}
    assert known == {
        8: ([2], 2),
        28: ([4, 6, 7], 6),
        32: ([4, 6, 8], 6),
        224: ([29, 41, 56], 41),
    }


def test_nothing_is_searched_where_ordinary_content_seldom_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = window.Plan.of(examination(0.0), large_window.LARGE_WINDOW)
    tried = large_window.sides(*SHAPE[1:])
    assert tried == [3, 4, 5]
    for medians, expected in [
        ({3: 0.1, 4: 0.2, 5: 0.6}, 5),
        ({3: 0.1, 4: 0.2, 5: 0.31}, 5),
        ({3: 0.1, 4: 0.2, 5: 0.29}, None),
        ({3: 0.3, 4: 0.9, 5: 1.0}, 4),
        ({3: 0.9, 4: 0.99, 5: 1.0}, 3),
        ({3: 0.96, 4: 0.99, 5: 1.0}, None),
    ]:
        monkeypatch.setattr(window, "_median_rate", lambda _, side, known=medians: known[side])
        assert window.choose_side(plan) == expected
    monkeypatch.setattr(window, "_median_rate", lambda *_: 0.1)
    assert list(large_window.search(examination(0.0))) == []


def test_an_image_with_no_larger_side_is_not_searched_twice() -> None:
    assert large_window.sides(4, 4) == [window.first_side(4, 4)] == [1]


def test_it_says_why_there_is_nothing_and_decides_nothing_then() -> None:
    [told] = large_window.infer([], CONFIG, NUM_CLASSES)
    assert (told.p_value, told.calibrated_p_value, told.detected) == (None, None, False)
    assert told.remarks == (
        "no target class was searched: in no window of up to a quarter of the image ordinary content succeeds often "
        "but not always, the images are too few, or the time was up",
    )


def test_that_ordinary_content_succeeds_is_no_remark() -> None:
    remarks = large_window.infer(list(found("large-window", 0.0).values()), CONFIG, NUM_CLASSES)[0].remarks
    assert remarks == ("the larger window is 5 pixels wide and high",)


def test_rates_of_two_contents_are_taken_to_go_together_more_than_other_witnesses() -> None:
    statistics = [TARGET_RATE, TARGET_RATE, "target-mask", "target-contrast"]
    assert correlation_of(statistics)[0].tolist() == [1, 0.6, 0.3, 0.3]
