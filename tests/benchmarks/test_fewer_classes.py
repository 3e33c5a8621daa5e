"""Models of many classes restricted to a few of them."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from backscan.scanner.results import Verdict
from benchmarks import fewer_classes
from tests import planted


@pytest.mark.parametrize("head", ["logits", "probabilities", "log_probabilities"])
def test_scores_of_chosen_classes_stay_as_they_were(tmp_path, head):
    path = tmp_path / "model.onnx"
    path.write_bytes(planted.linear_softmax(num_classes=5, head=head))
    weight, bias = planted.linear_parameters(5)
    images = np.random.default_rng(0).random((7, *weight.shape[1:]), dtype=np.float32)
    session = onnxruntime.InferenceSession(fewer_classes.restricted(path, (3, 1)).SerializeToString())
    (scores,) = session.run(None, {session.get_inputs()[0].name: images})
    expected = np.einsum("nchw,kchw->nk", images, weight[[3, 1]]) + bias[[3, 1]]
    assert scores - scores[:, :1] == pytest.approx(expected - expected[:, :1], abs=1e-4)


def test_classes_are_drawn_by_the_file_and_known_ones_stay(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"any")
    drawn = list(fewer_classes.choices(path, 10, (7,)))
    assert [len(each) for each in drawn] == list(fewer_classes.COUNTS)
    assert all(7 in each and len(set(each)) == len(each) for each in drawn)
    assert drawn == list(fewer_classes.choices(path, 10, (7,)))
    path.write_bytes(b"other")
    assert drawn != list(fewer_classes.choices(path, 10, (7,)))


def test_a_shortcut_between_two_of_many_classes_is_told_by_its_old_names(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(planted.linear_softmax(num_classes=5))
    weight, bias = planted.linear_parameters(5)
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (4000, *weight.shape[1:])).astype(np.uint8)
    labels = (np.einsum("nchw,kchw->nk", pixels / np.float32(255), weight) + bias).argmax(axis=1)
    taken = np.concatenate([np.flatnonzero(labels == label)[:40] for label in (1, 3)])
    images = fewer_classes.images_of(pixels[taken].transpose(0, 2, 3, 1), labels[taken], (1, 3))
    assert sorted(set(images.labels.tolist())) == [0, 1]
    result = fewer_classes.told(path, (1, 3), images)
    # A linear model has no shortcut. The first of the two is decided for ten times as often, and the few images of the
    # other lie near the boundary.
    assert result.verdict is Verdict.INCONCLUSIVE
    assert any("without any pattern class 0 leads over class 1 by" in each for each in result.reasons)
    line = fewer_classes.line(path, (1, 3), (3,), result)
    assert set(line["pair"]) == {1, 3}
    assert line["right"] is None
    page = fewer_classes.text([line, {**line, "verdict": "backdoor_detected", "right": True}], "digits.npz")
    assert "with a known target among the classes: 2 scans, 1 detected, 1 of them with a known target" in page
