"""A tenth of the journeys, and that the table holds what it should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.journeys.materials import prepare
from benchmarks.journeys.running import in_this_process
from benchmarks.journeys.situations import journeys

ALL = journeys()
FAST = [each for each in ALL if each.fast]


def test_about_a_hundred_of_every_kind_and_a_tenth_of_them_here() -> None:
    assert len(ALL) >= 100
    assert {each.about for each in ALL} == {"verdicts", "data", "files", "reports", "after", "limits", "words"}
    assert len({(each.typed, each.folder) for each in ALL}) == len(ALL)
    assert len(ALL) / 15 < len(FAST) < len(ALL) / 7


def test_those_of_ci_end_as_they_should(tmp_path: Path) -> None:
    """In one test, as some of them read what the first one wrote."""
    prepare(tmp_path)
    faults = {each.situation: arrival.fault for each in FAST if (arrival := in_this_process(each, tmp_path)).fault}
    assert faults == {}


def test_another_end_is_a_fault(tmp_path: Path) -> None:
    journey = next(each for each in FAST if each.situation == "continued without a journal")
    assert in_this_process(journey, tmp_path).fault == ""
    assert in_this_process(replace(journey, code=0), tmp_path).fault == "exit code 0 expected"
    assert "not said" in in_this_process(replace(journey, says="all is well"), tmp_path).fault
