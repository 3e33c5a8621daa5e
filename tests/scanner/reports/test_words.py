import pytest

from backscan.scanner.reports.words import (
    calibrated_text,
    counted,
    dormant_text,
    duration,
    number,
    overall_text,
    percent,
    shorten,
)
from backscan.scanner.results import DormantUnits
from tests.scanner.reports.examples import detected


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "n/a"), (0.0, "0"), (2.1e-13, "2.1e-13"), (0.53126, "0.531"), (1.0, "1"), (12345.6, "12,300")],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [(None, "n/a"), (0.0, "0%"), (1.0, "100%"), (0.99996, "over 99.9%"), (1e-5, "under 0.1%"), (0.8125, "81.2%")],
)
def test_percent_is_exact_at_the_ends(rate: float | None, text: str) -> None:
    assert percent(rate) == text


def test_a_calibrated_p_at_the_floor_is_a_bound() -> None:
    plain, controlled = detected().detectors
    assert calibrated_text(plain) == "<= 0.001"  # 1 / (999 + 1)
    assert calibrated_text(controlled) == "= 0.02"


def test_the_bound_grows_with_the_number_of_detectors() -> None:
    assert overall_text(detected()) == "<= 0.002"  # two detectors decide


def test_duration() -> None:
    assert [duration(s) for s in (0.2, 59.4, 200, 7500)] == ["0 s", "59 s", "3 min 20 s", "2 h 05 min"]


def test_counted() -> None:
    assert [counted(n, "finding") for n in (0, 1, 2)] == ["no findings", "1 finding", "2 findings"]


def test_long_names_lose_their_middle() -> None:
    assert shorten("a" * 48) == "a" * 48
    assert shorten("a" * 30 + "b" * 30, limit=10) == "aaaaa…bbbb"


def test_dormant_units_say_how_many_were_tried():
    assert dormant_text(DormantUnits(0, 0, 0, 0)) == "dormant units inside the model: none"
    told = dormant_text(DormantUnits(12, 7, 3, 2, "the time was up"))
    assert all(part in told for part in ("12 dormant units", "7 moved", "3 of which", "for 2", "the time was up"))
    assert dormant_text(DormantUnits(0, 0, 0, 0, "not looked for")).endswith("not looked for")
