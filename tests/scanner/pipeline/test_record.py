"""The result in the making: fields, warnings once, seconds a phase, and an end at any step."""

from __future__ import annotations

import pytest

from backscan.scanner.pipeline import record as draft_module
from backscan.scanner.pipeline.record import Draft, Settled
from backscan.scanner.progress import SilentProgress
from backscan.scanner.results import Verdict
from tests.scanner.reports import examples

MODEL, PROVENANCE = examples.no_verdict().model, examples.no_verdict().provenance


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
def draft(observer) -> Draft:
    return Draft(model=MODEL, config={"seed": 3}, provenance=PROVENANCE, progress=observer)


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Readings of the clock, in order."""
    readings: list[float] = []
    monkeypatch.setattr(draft_module.time, "monotonic", lambda: readings.pop(0))
    return readings


def test_fields_become_the_result(draft):
    draft.set(p_value=0.5, source=1)
    draft.set(source=2)
    result = draft.result(Verdict.NOT_DETECTED, ("because",))
    assert (result.model, result.config, result.provenance) == (MODEL, {"seed": 3}, PROVENANCE)
    assert (result.verdict, result.reasons, result.p_value, result.source) == (
        Verdict.NOT_DETECTED,
        ("because",),
        0.5,
        2,
    )


def test_warnings_are_told_and_kept_once(draft, observer):
    draft.warn("few images", "no labels", "few images")
    draft.warn("few images")
    assert draft.result(Verdict.NOT_DETECTED, ()).warnings == ("few images", "no labels")
    assert observer.told == [("warning", "few images"), ("warning", "no labels")]


def test_what_was_not_tested_is_kept_once(draft):
    draft.leave_out("patches", "warps", "patches")
    draft.leave_out("patches", "class 3")
    assert draft.result(Verdict.NOT_DETECTED, ()).not_tested == ("patches", "warps", "class 3")


def test_seconds_of_a_phase_add_up(draft, observer, clock):
    clock += [10.0, 11.5, 20.0, 20.25, 30.0, 34.0]
    for name in ("images", "search", "images"):
        with draft.phase(name):
            pass
    assert draft.result(Verdict.NOT_DETECTED, ()).timings == {"images": 5.5, "search": 0.25}
    assert observer.told == [("phase", "images"), ("phase", "search"), ("phase", "images")]


def test_a_phase_that_ends_the_scan_is_timed_too(draft, clock):
    clock += [1.0, 3.0]
    with pytest.raises(Settled) as caught, draft.phase("parity"):
        raise Settled(Verdict.NO_VERDICT, "they differ", "by much")
    result = draft.result(caught.value.verdict, caught.value.reasons)
    assert (result.verdict, result.reasons, result.timings) == (
        Verdict.NO_VERDICT,
        ("they differ", "by much"),
        {"parity": 2.0},
    )
