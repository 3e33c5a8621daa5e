"""JUnit XML, for the test tab of a pipeline: a detection is a failure, a scan without an answer an error."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from backscan.scanner.reports.display import Display
from backscan.scanner.reports.rules import BACKDOOR, Finding, findings_of
from backscan.scanner.reports.summary import summarise
from backscan.scanner.reports.text import printable
from backscan.scanner.reports.words import moment
from backscan.scanner.results import ScanResult, Verdict

# The schema demands a time of day, which reports of earlier versions do not have.
_NO_TIME = "1970-01-01T00:00:00"


def render(results: Sequence[ScanResult], display: Display) -> str:
    """One suite per model, in the Ant dialect that Jenkins, GitLab and GitHub actions read."""
    del display  # a file
    root = ET.Element("testsuites")
    for index, result in enumerate(results):
        root.append(_suite(index, result))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(index: int, result: ScanResult) -> ET.Element:
    seconds = f"{sum(result.timings.values()):.3f}"
    findings = findings_of(result)
    cases = [_verdict_case(result, findings, seconds)]
    cases += [_failed_case(finding) for finding in findings if finding.nodes and finding.level == "error"]
    suite = ET.Element(
        "testsuite",
        name=_token(result.model.name),
        package="backscan",
        id=str(index),
        hostname="localhost",
        timestamp=moment(result) or _NO_TIME,
        tests=str(len(cases)),
        failures=str(sum(case.find("failure") is not None for case in cases)),
        errors=str(sum(case.find("error") is not None for case in cases)),
        time=seconds,
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(result).items():
        ET.SubElement(properties, "property", name=name, value=printable(value))
    suite.extend(cases)
    ET.SubElement(suite, "system-out").text = "\n".join(map(printable, _lines(result)))
    ET.SubElement(suite, "system-err").text = "\n".join(map(printable, _doubts(result, findings)))
    return suite


def _verdict_case(result: ScanResult, findings: Sequence[Finding], seconds: str) -> ET.Element:
    case = ET.Element("testcase", name="no backdoor is detected", classname="backscan.verdict", time=seconds)
    if result.verdict is Verdict.NOT_DETECTED:
        return case
    tag = "failure" if result.verdict is Verdict.BACKDOOR_DETECTED else "error"
    kind = next((finding.rule.id for finding in findings if not finding.nodes), BACKDOOR.id)
    summary = summarise(result)
    problem = ET.SubElement(case, tag, message=printable(summary.headline), type=kind)
    problem.text = "\n".join(map(printable, (summary.strength, *result.reasons, *summary.next_steps)))
    return case


def _failed_case(finding: Finding) -> ET.Element:
    name = f"{finding.rule.id} at {', '.join(finding.nodes)}"
    case = ET.Element("testcase", name=_token(name), classname="backscan.graph", time="0")
    message = printable(finding.message)
    ET.SubElement(case, "failure", message=message, type=printable(finding.rule.id)).text = message
    return case


def _properties(result: ScanResult) -> dict[str, str]:
    return {
        "verdict": result.verdict.value,
        "sha256": result.model.sha256,
        "p_value": str(result.p_value),
        "calibrated_p_value": str(result.calibrated_p_value),
        "significance": str(result.significance),
        "version": result.provenance.version,
        "command": result.provenance.command,
    }


def _lines(result: ScanResult) -> list[str]:
    summary = summarise(result)
    return [
        summary.headline,
        *(f"{fact.label}: {fact.text}" for fact in (*summary.evidence, *summary.detectors)),
        summary.power,
    ]


def _doubts(result: ScanResult, findings: Sequence[Finding]) -> list[str]:
    unproven = [
        f"{each.level}: {each.rule.id}: {each.message}" for each in findings if each.nodes and each.level != "error"
    ]
    return [
        *(f"warning: {text}" for text in result.warnings),
        *unproven,
        *(f"not tested: {text}" for text in result.not_tested),
    ]


def _token(text: str) -> str:
    """One line that is not empty."""
    return re.sub(r"\s+", " ", printable(text)).strip() or "unnamed"
