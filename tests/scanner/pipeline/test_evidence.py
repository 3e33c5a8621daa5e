"""What a report shows beside the verdict, from a pattern and decisions that are known."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from backscan.scanner.pipeline.evidence import controls, encode_png, examples, found_pattern
from backscan.scanner.pipeline.replay import OriginalFile
from backscan.scanner.results import PairResult, PairStatus, Trajectory
from tests.scanner.reports import examples as reports

SOURCE, TARGET = 1, 2
INFERENCE = reports.detected(3).detectors[0]
SHAPE = (1, 1, 3)


def a_pair(source: int = SOURCE, target: int = TARGET, size: float | None = 5.0, pattern=None) -> PairResult:
    nothing = Trajectory((), ())
    return PairResult("pairwise", source, target, PairStatus.REACHED, size, 0.0, 0.8, 9, nothing, pattern=pattern)


def pattern_of(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(1, 1, -1)


def test_a_pattern_has_the_size_of_the_detector_and_all_its_norms():
    found = found_pattern(a_pair(size=4.5, pattern=pattern_of(3, -4, 0)), replace(INFERENCE, space="image"), SHAPE)
    assert (found.source, found.target, found.space, found.size) == (SOURCE, TARGET, "image", 4.5)
    assert (found.size_l1, found.size_l2, found.largest_change) == (7.0, 5.0, 4.0)
    np.testing.assert_array_equal(found.values.decode(), pattern_of(3, -4, 0))


def test_norms_of_a_faint_pattern_are_exact():
    """Squares of 1e-25 are nothing in float32."""
    assert found_pattern(a_pair(pattern=pattern_of(3e-25, 4e-25)), INFERENCE, SHAPE).size_l2 == pytest.approx(
        5e-25, rel=1e-6
    )


@pytest.mark.parametrize("lacking", [{"pattern": None}, {"size": None}])
def test_no_pattern_is_no_found_pattern(lacking):
    with pytest.raises(ValueError, match="expected a pattern for pair 1 -> 2, found none"):
        found_pattern(replace(a_pair(pattern=pattern_of(1)), **lacking), INFERENCE, SHAPE)


def decide(images: np.ndarray) -> np.ndarray:
    """The target where the first pixel is over one half, else the source."""
    return np.where(images[:, 0, 0, 0] > 0.5, TARGET, SOURCE)


def decide_at_the_cut(images: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """The target, if the pattern has the shape of the features."""
    return np.full(len(images), TARGET + len(pattern) - 4)


FILE = OriginalFile(
    SimpleNamespace(decisions=lambda images, **_: decide(images)),
    SimpleNamespace(decisions=lambda images, pattern, **_: decide_at_the_cut(images, pattern)),
)


def test_patterns_inside_the_model_leave_the_image_as_it_is():
    """No image shows them, so there is none afterwards."""
    images = np.zeros((2, 1, 1, 2), np.float32)
    pair = replace(a_pair(pattern=np.ones((4, 3, 3), np.float32)), detector="features")
    [one, _] = examples(FILE, pair, images)
    assert (one.decision_before, one.decision_after, one.after_png) == (SOURCE, TARGET, "")
    assert decoded(one.before_png).max() == 0


def test_images_that_the_pattern_moves_come_first_and_at_most_four():
    #        stays, moves, was there already, moves, stays, moves, moves, moves
    start = [0.0, 0.3, 0.9, 0.4, 0.1, 0.31, 0.32, 0.33]
    images = np.array([[[[value, 0.5]]] for value in start], np.float32)
    shown = examples(FILE, a_pair(pattern=pattern_of(0.25, 0.75)), images)
    assert [(e.label, e.decision_before, e.decision_after) for e in shown] == [(SOURCE, SOURCE, TARGET)] * 4
    assert [decoded(e.before_png)[0, 0] for e in shown] == [round(255 * start[i]) for i in (1, 3, 5, 6)]
    # 0.5 + 0.75 is clipped to white.
    assert [decoded(e.after_png).tolist()[0][1] for e in shown] == [255] * 4


def test_without_moves_what_there_is_is_shown():
    images = np.array([[[[0.9, 0.0]]], [[[0.0, 0.0]]]], np.float32)
    shown = examples(FILE, a_pair(pattern=pattern_of(0.1, 0.1)), images)
    assert [(e.decision_before, e.decision_after) for e in shown] == [(TARGET, TARGET), (SOURCE, SOURCE)]
    assert examples(FILE, a_pair(pattern=None), images) == ()


def decoded(png: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pictures_show_the_pixels(channels):
    levels = np.random.default_rng(0).integers(0, 256, (channels, 5, 7))
    picture = decoded(encode_png((levels / 255).astype(np.float32)))
    if channels == 3:
        np.testing.assert_array_equal(picture, levels.transpose(1, 2, 0))
    else:
        assert picture.shape == (5, 7)
        assert np.abs(picture - levels.mean(axis=0)).max() <= 0.5


def test_pictures_keep_to_the_range():
    assert decoded(encode_png(np.array([[[-0.5, 1.5]]], np.float32))).tolist() == [[0, 255]]


def test_controls_compare_the_pair_with_the_others():
    sizes = {(0, 1): 4.0, (0, 2): 8.0, (1, 0): 5.0, (1, 2): 0.5, (2, 0): 7.0, (2, 1): 6.0, (3, 2): None}
    found = controls([a_pair(*pair, size) for pair, size in sizes.items()], SOURCE, TARGET)
    assert (found.source, found.target) == (SOURCE, TARGET)
    assert (found.size, found.reversed_size) == (0.5, 6.0)
    assert found.median_size == np.median([4.0, 8.0, 5.0, 0.5, 7.0, 6.0])
    assert found.target_median_size == np.median([8.0, 0.5])
    assert found.source_median_size == 5.0


def test_controls_leave_open_what_was_not_searched():
    found = controls([a_pair(1, 2, 0.5)], 1, 2)
    assert (found.reversed_size, found.target_median_size, found.source_median_size) == (None, 0.5, None)
    assert controls([], 1, 2) is None
    assert controls([a_pair(1, 2, None)], 1, 2) is None
    assert controls([a_pair()], None, 2) is None
