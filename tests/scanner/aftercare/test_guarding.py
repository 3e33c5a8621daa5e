"""What is told of a guarded file is what the file does: its alarms, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest

from backscan.converters import Artifact
from backscan.scanner.aftercare.guard import Threshold
from backscan.scanner.aftercare.guarding import guard_model
from backscan.scanner.process.parent import SettledFile
from backscan.scanner.process.protocol import Timed
from backscan.scanner.reports.aftercare import FORMS, guard_sheet
from tests.scanner.aftercare.test_repair import Case, case, one_path, scanned, with_pattern

__all__ = ["case", "one_path", "scanned"]  # fixtures


TIMED = 20


def turns(difference: np.ndarray) -> Timed:
    before = 1.0 + np.random.default_rng(0).normal(scale=0.2, size=len(difference))
    return Timed(tuple(before), tuple(before + difference), TIMED)


@pytest.mark.parametrize(
    ("difference", "measurable"),
    [
        (np.full(6, 0.25), True),
        (np.array([-0.1, 0.9, 0.9, 0.9, 0.9, 0.9]), False),  # one of six may be chance
        (np.random.default_rng(1).normal(0.25, 0.5, 60), True),
        (np.random.default_rng(1).normal(0.0, 0.5, 60), False),
        (np.full(60, -0.25), False),
    ],
)
def test_the_cost_of_a_guard_is_told_where_timings_show_it(
    case: Case, monkeypatch: pytest.MonkeyPatch, difference: np.ndarray, measurable: bool
) -> None:
    asked = []

    def time_in_turns(_: SettledFile, before: Artifact, images: np.ndarray, output: str) -> Timed:
        asked.append((before.data, len(images), output))
        return turns(difference)

    monkeypatch.setattr(SettledFile, "time_in_turns", time_in_turns)
    report = with_pattern(case.report, 8)
    result = guard_model(case.model, case.images, case.out, report, rate=0.1, sandbox=False)
    assert asked == [(case.model.read_bytes(), 40, "pattern_score")]
    assert result.microseconds_without == pytest.approx(1e6 * np.median(turns(difference).before) / TIMED)
    assert (result.microseconds is not None) == measurable
    if measurable:
        assert result.microseconds == pytest.approx(1e6 * np.median(difference) / TIMED)
    told = FORMS[".txt"](guard_sheet(result))
    assert ("not measurable" in told) != measurable
    assert ("µs an image; the model takes" in told) == measurable


def test_the_files_are_timed_in_turns_in_one_process(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Timed] = []

    def kept(file: SettledFile, before: Artifact, images: np.ndarray, output: str) -> Timed:
        told.append(ask(file, before, images, output))
        return told[-1]

    ask = SettledFile.time_in_turns
    monkeypatch.setattr(SettledFile, "time_in_turns", kept)
    for enforce in (None, "reject"):
        guard_model(case.model, case.images, case.out, with_pattern(case.report, 8), rate=0.1, enforce=enforce)
    assert all(6 <= len(each.before) == len(each.after) <= 60 for each in told)
    assert min(min(each.before + each.after) for each in told) > 0


@pytest.mark.parametrize("shift", [-9e-7, 9e-7])
def test_alarms_are_those_of_the_file_and_no_rounding_adds_one(
    case: Case, monkeypatch: pytest.MonkeyPatch, shift: float
) -> None:
    read, given = SettledFile.read_score, []

    def rounded(file: SettledFile, images: np.ndarray, output: str) -> np.ndarray:
        given.append(read(file, images, output) + np.float32(shift))  # as another runtime may add
        return given[-1]

    monkeypatch.setattr(SettledFile, "read_score", rounded)
    report = with_pattern(case.report, 8)
    for rate in (0.05, 0.1, 0.3):
        given.clear()
        result = guard_model(case.model, case.images, case.out, report, rate=rate, sandbox=False)
        assert result.threshold is not None
        rank = int(rate * 41 + 1e-9)
        assert result.alarms_on_clean == (given[0] > result.threshold).sum() < rank
        told = " ".join(FORMS[".txt"](guard_sheet(result)).split())
        assert f"images above {result.threshold:.6g} are suspicious" in told
        assert f"alarms on clean images {result.alarms_on_clean} of 40 (" in told


def test_alarms_are_counted_in_the_file(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    read = SettledFile.read_score
    monkeypatch.setattr(SettledFile, "read_score", lambda *given: np.clip(read(*given) - np.float32(9e-4), 0, 1))
    monkeypatch.setattr("backscan.scanner.aftercare.guarding.threshold_for", lambda scores, *_, **__: near(scores))
    report = with_pattern(case.report, 8)
    result = guard_model(case.model, case.images, case.out, report, rate=0.3, sandbox=False)
    assert result.alarms_on_clean == 0
    assert result.interval == pytest.approx((0.0, 0.0881), abs=1e-3)


def near(scores: np.ndarray) -> Threshold:
    """A threshold that one image exceeds by less than the file may differ."""
    return Threshold(float(scores.max()) - 5e-4, 0.3, 1, len(scores))
