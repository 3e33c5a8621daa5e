"""What a pipeline accepts: known findings, and verdicts that --fail-on lets pass. Never in silence."""

from dataclasses import replace
from pathlib import Path

import pytest

from backscan.scanner.cli.baseline import baseline_of, read_baseline
from backscan.scanner.cli.exit_code import FAIL_ON, outcome
from backscan.scanner.errors import ExitCode, ReportError
from backscan.scanner.reports import render
from backscan.scanner.results import ScanResult
from tests.scanner.reports.examples import detected, inconclusive, looks_alike, no_verdict, not_detected, with_findings

MAKE = {"detected": detected, "not_detected": not_detected, "inconclusive": inconclusive, "no_verdict": no_verdict}


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (["not_detected"], 0),
        (["detected"], 1),
        (["no_verdict"], 3),
        (["inconclusive"], 4),
        (["not_detected", "inconclusive"], 4),
        (["inconclusive", "no_verdict"], 3),
        (["inconclusive", "no_verdict", "detected", "not_detected"], 1),
    ],
)
def test_the_contract_s_codes(verdicts: list[str], code: int) -> None:
    ended = outcome([MAKE[name]() for name in verdicts])
    assert (ended.code, ended.remarks) == (code, ())


@pytest.mark.parametrize(
    ("fail_on", "codes"),
    [
        ("detected", {"detected": 1, "inconclusive": 0, "no_verdict": 0, "not_detected": 0}),
        ("inconclusive", {"detected": 1, "inconclusive": 4, "no_verdict": 0, "not_detected": 0}),
        ("any", {"detected": 1, "inconclusive": 4, "no_verdict": 3, "not_detected": 0}),
    ],
)
def test_fail_on(fail_on: str, codes: dict[str, int]) -> None:
    ended = {name: outcome([make()], fail_on=fail_on) for name, make in MAKE.items()}
    assert {name: each.code for name, each in ended.items()} == codes
    mapped = {name for name, each in ended.items() if each.remarks}
    assert mapped == {name for name, code in codes.items() if code == 0} - {"not_detected"}
    assert set(FAIL_ON) == {"detected", "inconclusive", "any"}


def test_a_known_finding_does_not_fail_and_a_new_one_does() -> None:
    baseline = baseline_of([detected()])
    assert outcome([detected()], baseline=baseline).code == ExitCode.NOT_DETECTED
    elsewhere = replace(detected(), target=8)
    assert outcome([elsewhere], baseline=baseline).code == ExitCode.DETECTED
    other_file = replace(detected(), model=replace(detected().model, name="other.onnx"))
    assert outcome([other_file], baseline=baseline).code == ExitCode.DETECTED


def test_a_new_switch_beside_a_known_pattern_fails() -> None:
    both = replace(detected(), findings=with_findings().findings)
    assert outcome([both], baseline=baseline_of([detected()])).code == ExitCode.DETECTED
    assert outcome([both], baseline=baseline_of([both])).code == ExitCode.NOT_DETECTED


def test_a_pair_of_look_alikes_that_was_looked_at_is_accepted_and_nothing_else_of_that_scan() -> None:
    baseline = baseline_of([looks_alike()])
    accepted = outcome([looks_alike()], baseline=baseline)
    assert (accepted.code, len(accepted.remarks)) == (ExitCode.NOT_DETECTED, 1)
    assert accepted.remarks[0].endswith("inconclusive does not fail: the baseline knows every finding")
    assert outcome([looks_alike()]).code == ExitCode.INCONCLUSIVE
    assert outcome([replace(looks_alike(), target=8)], baseline=baseline).code == ExitCode.INCONCLUSIVE
    assert outcome([replace(looks_alike(), look_alikes=False)], baseline=baseline).code == ExitCode.INCONCLUSIVE
    assert outcome([detected()], baseline=baseline).code == ExitCode.DETECTED
    assert outcome([looks_alike()], baseline=baseline_of([inconclusive()])).code == ExitCode.INCONCLUSIVE


@pytest.mark.parametrize(
    "result", [inconclusive(), no_verdict(), replace(inconclusive(), findings=with_findings().findings)]
)
def test_what_says_nothing_is_never_accepted(result: ScanResult) -> None:
    assert outcome([result], baseline=baseline_of([result])).code != ExitCode.NOT_DETECTED


def test_accepting_is_told_and_a_changed_file_is_named() -> None:
    changed = replace(detected(), model=replace(detected().model, sha256="00" * 32))
    remarks = outcome([changed], baseline=baseline_of([detected()])).remarks
    assert len(remarks) == 2
    assert "the baseline knows every finding" in remarks[0]
    assert "changed since the baseline" in remarks[1]


def test_a_baseline_is_a_report_of_one_or_several(tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    for results in ([detected()], [detected(), no_verdict()]):
        path.write_text(render(results, "json"), encoding="utf-8")
        assert read_baseline(path) == baseline_of(results)


def test_a_missing_baseline_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"--baseline at .*known\.json.*--report FILE\.json"):
        read_baseline(tmp_path / "known.json")
