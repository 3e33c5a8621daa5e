"""The chance in plain words never says less than the p-value, and agrees with the threshold."""

from dataclasses import replace

import pytest

from backscan.scanner.reports.strength import chances, strength_text
from backscan.scanner.reports.summary import detector_text, summarise
from tests.scanner.reports.examples import detected, inconclusive, looks_alike, no_verdict, not_detected, with_findings


@pytest.mark.parametrize(
    ("p_value", "text"),
    [
        (1.0, "100 chances in 100"),
        (0.675, "68 chances in 100"),
        (0.1, "10 chances in 100"),
        (0.0968, "1 chance in 10"),
        (0.05, "1 chance in 20"),
        (0.0501, "1 chance in 19"),
        (0.004, "1 chance in 250"),
        (8e-4, "1 chance in 1,250"),
        (2.1e-13, "less than 1 chance in a million"),
    ],
)
def test_a_p_value_as_a_chance(p_value: float, text: str) -> None:
    assert chances(p_value) == text


def test_a_detection_says_its_chance_after_how_many_tests() -> None:
    assert strength_text(detected()) == (
        "At most 1 chance in 500 of this without a backdoor, after 2 tests; a detection needs at most 1 in 20."
    )
    alone = replace(detected(), detectors=detected().detectors[:1], calibrated_p_value=0.004)
    assert strength_text(alone).startswith("1 chance in 250 of this without a backdoor; a detection")


def test_what_was_not_detected_is_not_this() -> None:
    assert strength_text(not_detected()).startswith("82 chances in 100 of something as extreme without a backdoor")


def test_what_always_happens_is_no_hundred_chances() -> None:
    assert strength_text(replace(not_detected(), calibrated_p_value=1.0)).startswith(
        "Something as extreme is to be expected without a backdoor"
    )


def test_an_inconclusive_scan_rests_on_no_chance() -> None:
    assert strength_text(inconclusive()).startswith("The statistics alone, on which no verdict rests here: 1 chance")
    assert strength_text(no_verdict()) == ""


def test_a_switch_is_shown_and_not_inferred() -> None:
    assert "chance plays no part" in strength_text(with_findings())


def test_a_pair_beside_look_alikes_is_told_by_both_p_values_and_what_to_do() -> None:
    result = looks_alike()
    assert strength_text(result).startswith("Beside pairs that come as near 60 chances in 100 of something as extreme")
    assert "= 0.6 beside look-alikes, = 0.02 by the fitted null alone" in detector_text(result, result.detectors[0])
    assert "look alike, that explains this pair and no other" in summarise(result).next_steps[0]
    otherwise = replace(result, look_alikes=False)
    assert strength_text(otherwise).startswith("The statistics alone")
    assert "Remove the cause named above" in summarise(otherwise).next_steps[0]
