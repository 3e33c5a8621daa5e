"""Which pattern images can carry, of a report whose pattern acts inside the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backscan.scanner.aftercare.subject import planted_of, visible_pattern
from backscan.scanner.results import EncodedArray, PairStatus, ScanResult, SignatureRecord, SupportRecord, TargetResult
from tests.scanner.aftercare.test_guard import SHAPE, chessboard, report_of

SIGNATURE = SignatureRecord("x", SHAPE, "NCHW", "float32", None, "y", "logits", 17, "test")
PIXELS = (0, 1, SHAPE[2], SHAPE[2] + 1)


def content(detector: str, rate: float, target: int = 3, *, held: bool = True) -> TargetResult:
    values = np.full((SHAPE[0], len(PIXELS)), rate, np.float32)
    support = SupportRecord(2, PIXELS, EncodedArray.encode(values) if held else None, (1,), (9,), (10,))
    return TargetResult(detector, target, PairStatus.REACHED, 1.0, rate, 20, support=support)


def on_features(*targets: TargetResult) -> ScanResult:
    report = report_of(chessboard())
    inside = replace(report.patterns[0], detector="features", space="/conv/Output_0")
    return replace(report, patterns=(inside,), targets=targets, model=replace(report.model, signature=SIGNATURE))


def test_a_pattern_on_images_is_itself():
    report = report_of(chessboard())
    assert visible_pattern(report, planted_of(report)) is report.patterns[0]
    assert visible_pattern(report, None) is None


def test_of_one_inside_the_model_it_is_the_content_by_which_its_target_stands_out_most():
    usual = [content("window", 0.05, target) for target in (0, 1)]
    report = on_features(content("window", 0.82), content("mask", 0.7), content("window", 0.99, target=2), *usual)
    found = visible_pattern(report, planted_of(report))
    assert found is not None
    assert (found.detector, found.source, found.target) == ("window", 1, 3)
    assert found.mask is not None
    assert found.mask.decode().sum() == len(PIXELS)
    assert found.values.decode()[:, :2, :2] == pytest.approx(0.82)


def test_content_that_sends_few_there_or_is_not_held_is_none():
    report = on_features(content("window", 0.49), content("mask", 0.9, held=False))
    assert visible_pattern(report, planted_of(report)) is None


def test_content_of_a_large_window_that_any_content_of_its_size_matches_is_not_it():
    """Ordinary content succeeds there on most images of every target: .98 is hardly more than .9."""
    usual = [content("large-window", 0.9, target) for target in (0, 1, 2)]
    report = on_features(content("window", 0.6), content("large-window", 0.98), *usual)
    found = visible_pattern(report, planted_of(report))
    assert found is not None
    assert found.detector == "window"
