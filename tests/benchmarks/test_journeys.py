"""A tenth of the journeys, and that the table holds what it should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.journeys.materials import prepare
from benchmarks.journeys.running import in_this_process
from benchmarks.journeys.situations import Journey, journeys

ALL = journeys()
FAST = [each for each in ALL if each.fast]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The materials of all journeys."""
    place = tmp_path_factory.mktemp("journeys")
    prepare(place)
    return place


def test_about_a_hundred_of_every_kind_and_a_tenth_of_them_here() -> None:
    assert len(ALL) >= 100
    assert {each.about for each in ALL} == {"verdicts", "data", "files", "reports", "after", "limits", "words"}
    assert len({(each.typed, each.folder) for each in ALL}) == len(ALL)
    assert len(ALL) / 15 < len(FAST) < len(ALL) / 7


@pytest.mark.parametrize("journey", FAST, ids=lambda journey: journey.situation)
def test_a_journey_ends_as_it_should(journey: Journey, folder: Path) -> None:
    assert in_this_process(journey, folder).fault == ""


def test_another_end_is_a_fault(folder: Path) -> None:
    journey = next(each for each in FAST if each.code == 2)
    assert in_this_process(replace(journey, code=0), folder).fault == "exit code 0 expected"
    assert "not said" in in_this_process(replace(journey, says="all is well"), folder).fault
