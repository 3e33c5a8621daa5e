"""JUnit XML against the usual schema (Ant's, which ub-test-reports ships) and read back by junitparser."""

from dataclasses import replace
from importlib import resources

import pytest
from junitparser import Error, Failure, JUnitXml
from lxml import etree

from backscan.scanner.reports import render
from tests.scanner.reports.examples import ALL, detected, hostile, no_verdict, not_detected, with_findings
from tests.scanner.reports.golden import check

SCHEMA = etree.XMLSchema(etree.fromstring((resources.files("ub_test_reports.schemas") / "JUnit.xsd").read_bytes()))


def read(*results: object) -> JUnitXml:
    return JUnitXml.fromstring(render(list(results), "junit").encode())  # type: ignore[arg-type]


@pytest.mark.parametrize("example", ALL)
def test_valid_by_the_usual_schema(example: str) -> None:
    SCHEMA.assertValid(etree.fromstring(render(ALL[example](), "junit").encode()))


@pytest.mark.parametrize("example", ["detected_3", "with_findings", "hostile"])
def test_golden(example: str) -> None:
    check(f"{example}.junit.xml", render(ALL[example](), "junit"))


def test_the_time_is_that_of_the_scan() -> None:
    (suite,) = read(detected())
    assert suite.timestamp == "2026-01-02T03:04:05"
    for unknown in ("", "yesterday", '2026-01-02T03:04:05Z" x="'):
        (suite,) = read(replace(detected(), finished=unknown))
        assert suite.timestamp == "1970-01-01T00:00:00"


def test_a_detection_fails_and_a_scan_without_answer_errs() -> None:
    suites = list(read(detected(), not_detected(), no_verdict()))
    assert [(suite.tests, suite.failures, suite.errors) for suite in suites] == [(1, 1, 0), (1, 0, 0), (1, 0, 1)]
    outcomes = [[type(each) for each in case.result] for suite in suites for case in suite]
    assert outcomes == [[Failure], [], [Error]]


def test_demonstrated_switches_fail_and_suspected_ones_do_not() -> None:
    (suite,) = read(with_findings())
    assert [case.name for case in suite] == [
        "no backdoor is detected",
        "graph/selected-by-predicate at Greater_12, Where_14",
    ]
    assert suite.failures == 2
    assert "graph/joined-by-side-path" in render(with_findings(), "junit").partition("<system-err>")[2]


def test_hostile_names_survive_as_text() -> None:
    (suite,) = read(hostile())
    assert suite.name == '<img src=x onerror=alert(1)>"]]>.onnx'
    (case,) = suite
    assert "\\x1b[2J" in case.result[0].message
