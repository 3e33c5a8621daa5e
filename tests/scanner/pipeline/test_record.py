"""What a scan keeps of its steps: values once each, warnings once, seconds a phase, and an end at any gate."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from backscan.scanner.config import ScanConfig
from backscan.scanner.detectors import Searched
from backscan.scanner.inference.verdict import Judgement
from backscan.scanner.pipeline import record as record_module
from backscan.scanner.pipeline.record import Concluded, Cutting, GraphFindings, Record, Stop, Stopped
from backscan.scanner.progress import SilentProgress
from backscan.scanner.results import ScanResult, Verdict
from tests.scanner.reports import examples

NOT_DETECTED = Judgement(Verdict.NOT_DETECTED, ("because",))
DETECTED = examples.detected(3)
# A step of its own, so that a result made of it alone shows what is left out.
UNSEARCHED = "every class pair: the scan ended before the search"


class Observer(SilentProgress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def phase(self, name: str) -> None:
        """A step."""
        self.told.append(("phase", name))

    def warn(self, text: str) -> None:
        """A warning."""
        self.told.append(("warning", text))


@pytest.fixture
def observer() -> Observer:
    return Observer()


@pytest.fixture
def record(observer) -> Record:
    artifact = SimpleNamespace(name="m.onnx", sha256="5a", data=b"123", external={"w": b"45"})
    return Record(artifact, ("ant", "bee"), ScanConfig(seed=3), examples.no_verdict().provenance, observer)


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Readings of the clock, in order."""
    readings: list[float] = []
    monkeypatch.setattr(record_module.time, "monotonic", lambda: readings.pop(0))
    return readings


def result(record: Record) -> ScanResult:
    return record.result(NOT_DETECTED)


def test_the_result_is_made_of_what_the_steps_gave(record):
    pairs, conclusions = DETECTED.pairs, DETECTED.detectors
    record.take(Searched(("pairwise",), 3, pairs=pairs[:1]))
    record.take(Searched(("pairwise",), 3, pairs=pairs))
    record.take(Concluded(conclusions, 1, calibrated_p_value=0.04, controls=DETECTED.controls))
    found = result(record)
    assert (found.model.name, found.model.num_bytes, found.model.class_names) == ("m.onnx", 5, ("ant", "bee"))
    assert (found.verdict, found.reasons) == (NOT_DETECTED.verdict, NOT_DETECTED.reasons)
    assert (found.pairs, found.detectors, found.config["detectors"]) == (pairs, conclusions, ["pairwise"])
    assert (found.deciding, found.deciding_conclusion) == (1, conclusions[1])
    assert (found.source, found.target, found.p_value) == (1, 2, conclusions[1].p_value)
    assert (found.calibrated_p_value, found.null, found.controls) == (0.04, conclusions[1].null, DETECTED.controls)


def test_without_a_conclusion_that_decides_nothing_is_pointed_at(record):
    record.take(Concluded(DETECTED.detectors))
    found = result(record)
    assert (found.deciding, found.source, found.target, found.p_value, found.null) == (None,) * 5


def test_the_tensor_of_the_cut_is_told_once_it_is_known(record):
    assert result(record).config["cut"] is None
    record.config = ScanConfig(cut="asked")
    assert result(record).config["cut"] == "asked"
    record.take(Cutting(SimpleNamespace(tensor="found")))
    assert result(record).config["cut"] == "found"
    record.take(Cutting(None))
    assert result(record).config["cut"] is None


def test_a_demonstrated_switch_is_a_detection_unless_the_user_ended_the_scan(record):
    record.take(GraphFindings(examples.with_findings().findings))
    assert result(record).verdict is Verdict.BACKDOOR_DETECTED
    assert record.result(NOT_DETECTED, interrupted=True).verdict is Verdict.NOT_DETECTED


def test_a_gate_that_is_shut_ends_the_scan(record):
    with pytest.raises(Stopped) as caught:
        record.take(Stop(Verdict.NO_VERDICT, ("they differ", "by much")))
    assert caught.value.stop == Stop(Verdict.NO_VERDICT, ("they differ", "by much"))
    assert record.get(Stop) is None


def test_warnings_are_told_and_kept_once(record, observer):
    record.warn("few images", "no labels", "few images")
    record.warn("few images")
    assert result(record).warnings == ("few images", "no labels")
    assert observer.told == [("warning", "few images"), ("warning", "no labels")]


def test_what_was_not_tested_is_kept_once(record):
    record.leave_out("patches", "warps", "patches")
    record.leave_out("patches", "class 3")
    assert result(record).not_tested == ("patches", "warps", "class 3", UNSEARCHED)


def test_seconds_of_a_phase_add_up(record, observer, clock):
    clock += [10.0, 11.5, 20.0, 20.25, 30.0, 34.0]
    for name in ("images", "search", "images"):
        with record.phase(name):
            pass
    found = result(record)
    assert (found.timings, found.not_tested) == ({"images": 5.5, "search": 0.25}, ())
    assert observer.told == [("phase", "images"), ("phase", "search"), ("phase", "images")]


def test_a_phase_that_ends_the_scan_is_timed_too(record, clock):
    clock += [1.0, 3.0]
    with pytest.raises(Stopped), record.phase("parity"):
        record.take(Stop(Verdict.NO_VERDICT, ("they differ",)))
    assert result(record).timings == {"parity": 2.0}
