"""Sentences by what they must and must not claim."""

import html
from dataclasses import replace

import pytest

from backscan.scanner.reports import RENDERERS, render
from backscan.scanner.reports.basis import deciding
from backscan.scanner.reports.summary import summarise
from backscan.scanner.results import LeftToSearch, ScanResult, ScreenRecord, TimeRecord, Verdict
from tests.scanner.reports.examples import (
    ALL,
    bare,
    detected,
    inconclusive,
    no_verdict,
    not_detected,
    with_findings,
    without_images,
)


@pytest.mark.parametrize("example", ALL)
def test_every_scan_has_a_verdict_power_and_a_next_step(example: str) -> None:
    summary = summarise(ALL[example]())
    assert summary.headline.startswith(f"{summary.label}: ")
    assert summary.power.startswith("Power: ")
    assert summary.next_steps


def test_the_graph_counts_as_tested_only_if_it_was() -> None:
    searched, not_searched = not_detected(), replace(not_detected(), timings={"search": 1.0})
    assert any("graph" in text for text in summarise(searched).tested)
    assert not any("graph" in text for text in summarise(not_searched).tested)


def test_a_replay_confirms_only_what_is_abnormal() -> None:
    ordinary = replace(detected(), verdict=not_detected().verdict)
    told = {fact.label: fact.text for fact in summarise(ordinary).evidence}
    assert "confirmed" not in told["original file"]
    assert "confirmed" in {fact.label: fact.text for fact in summarise(detected()).evidence}["original file"]


def test_power_is_not_claimed_where_it_is_unknown() -> None:
    assert "no class pair was searched" in summarise(no_verdict()).power
    assert "is not known" in summarise(bare()).power
    assert "has size 0.62 (L2)" in summarise(not_detected()).power


def p_values(result: ScanResult) -> str:
    return next(fact.text for fact in summarise(result).evidence if fact.label == "p-value")


def test_the_published_p_decides_when_asked() -> None:
    chosen = replace(detected(), config={**detected().config, "published_p": True})
    assert "on the published p" in p_values(chosen)
    assert "on the calibrated p" in p_values(detected())
    assert summarise(chosen).strength.startswith("Less than 1 chance in a million of this without a backdoor")


def test_the_conclusion_behind_the_verdict_is_the_one_that_is_stored() -> None:
    first, second = detected().detectors
    assert deciding(detected()) is first
    assert deciding(replace(detected(), deciding=1)) is second
    assert deciding(replace(detected(), deciding=None)) is first, "the first that informs, where none decides"
    assert deciding(no_verdict()) is None


def test_the_p_value_says_for_how_many_tests_it_was_multiplied() -> None:
    assert "0.82 (0.41 x 2 tests, 999 draws)" in p_values(not_detected())
    one = replace(not_detected(), detectors=not_detected().detectors[:1], calibrated_p_value=0.41)
    assert "= 0.41 (999 draws)" in p_values(one)


def cautions(result: ScanResult) -> list[str]:
    return [fact.text for fact in summarise(result).evidence if fact.label == "caution"]


def test_what_speaks_against_a_planted_pattern_is_told_of_detections_alone() -> None:
    found = detected()
    assert found.controls
    assert found.controls.size
    assert found.controls.median_size
    assert found.verification
    assert cautions(found) == []
    near = replace(found, controls=replace(found.controls, reversed_size=1.4 * found.controls.size))
    assert "reversed pair is about as near" in cautions(near)[0]
    near_all = replace(found, controls=replace(found.controls, source_median_size=0.6 * found.controls.median_size))
    assert "automobile (1) is near all classes" in cautions(near_all)[0]
    screened = replace(near_all, screens=(ScreenRecord("pairwise", 90, num_drawn=30, num_chosen=9),))
    assert "scanner infer" in cautions(near_all)[0]
    assert "--screen off" in cautions(screened)[0]
    adjusted = tuple(replace(each, statistic="source-adjusted") for each in near_all.detectors)
    assert cautions(replace(near_all, detectors=adjusted)) == []
    anyhow = replace(found, verification=replace(found.verification, rate_shuffled=0.3))
    assert "shuffled" in cautions(anyhow)[0]
    collateral = (replace(found.verification.collateral[0], source=3, rate=0.6),)
    all_classes = replace(found, verification=replace(found.verification, collateral=collateral))
    assert "sends most images of cat (3)" in cautions(all_classes)[0]
    assert cautions(replace(near, verdict=Verdict.NOT_DETECTED)) == []
    nearer = replace(found, controls=replace(found.controls, reversed_size=0.1 * found.controls.size))
    assert "nearer still" in cautions(nearer)[0]
    by_a_switch = replace(with_findings(), controls=near.controls)
    assert by_a_switch.verdict is Verdict.BACKDOOR_DETECTED
    assert cautions(by_a_switch) == []


def resting(result: ScanResult) -> list[str]:
    return [fact.text for fact in summarise(result).detectors if "rests on this" in fact.text]


def test_the_detector_on_which_the_verdict_rests_is_marked() -> None:
    assert "reverse-controlled" not in resting(detected())[0]
    assert "reverse-controlled" in resting(replace(detected(), deciding=1))[0]
    assert resting(with_findings()) == []
    assert resting(replace(not_detected(), verdict=Verdict.INCONCLUSIVE)) == []


@pytest.mark.parametrize("result", [inconclusive(), no_verdict()])
def test_the_first_reason_is_told_once(result: ScanResult) -> None:
    summary = summarise(result)
    assert result.reasons[0][1:] in summary.statement
    assert not any(result.reasons[0] in fact.text for fact in summary.evidence)


def test_a_switch_alone_is_not_called_a_pattern() -> None:
    assert "switch in the graph" in summarise(with_findings()).statement
    both = replace(with_findings(), detectors=detected().detectors)
    assert "One small pattern" in summarise(both).statement


def test_classes_without_names_are_numbers() -> None:
    assert summarise(without_images()).statement == "One small pattern turns images of class 1 into class 2."


def ended_by_its_limit() -> ScanResult:
    left = (LeftToSearch("pairwise", "class pair", 58, 90),)
    clock = TimeRecord(60.0, 59.0, 80.0, ended_the_scan=True, left=left, seconds_left=24.0)
    reason = "the time limit of 60 s ended the search about 24 s before it was done (all of it takes about 80 s here)"
    out = ("58 of 90 class pairs with detector pairwise: the search did not finish",)
    return replace(inconclusive(), time=clock, reasons=(reason,), not_tested=out)


def test_a_scan_that_its_limit_ended_says_what_to_do_about_time() -> None:
    said = summarise(ended_by_its_limit())
    assert said.next_steps[0].startswith("Scan again with more time: --time-limit 130, or without a limit")
    assert {fact.label: fact.text for fact in said.checks}["wall time"].startswith("59 s of 1 min 00 s (--time-limit)")
    assert "of planted pairs among those that were searched" in said.power
    whole = replace(ended_by_its_limit(), time=TimeRecord(60.0, 40.0, 30.0, ended_the_scan=False))
    assert summarise(whole).next_steps == summarise(inconclusive()).next_steps


@pytest.mark.parametrize("name", [name for name in RENDERERS if name != "verification"])
def test_every_format_says_what_a_limited_scan_left_out(name: str) -> None:
    """A summary of what was in order (`verification`) has no word for it: it then names nothing."""
    text = " ".join(html.unescape(render(ended_by_its_limit(), name, width=400)).split())
    assert "about 24 s before it was done (all of it takes about 80 s here)" in text
    assert "58 of 90 class pairs with detector pairwise: the search did not finish" in text
