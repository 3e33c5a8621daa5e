"""SARIF 2.1.0, for code scanning dashboards; the tests hold it against the official schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from backscan.scanner.reports.display import Display
from backscan.scanner.reports.rules import RULES, Finding, Rule, findings_of
from backscan.scanner.reports.text import printable
from backscan.scanner.results import ScanResult, Verdict, to_json

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
# CWE-506 embedded malicious code, CWE-912 hidden functionality
_TAGS = ["security", "machine-learning", "backdoor", "external/cwe/cwe-506", "external/cwe/cwe-912"]


def render(results: Sequence[ScanResult], display: Display) -> str:
    """One run with one result a finding; a model without findings is listed as scanned and has no result."""
    del display  # a file
    artifacts = [_artifact(result) for result in results]
    listed = [artifact for index, artifact in enumerate(artifacts) if artifact not in artifacts[:index]]
    findings = [
        (listed.index(artifact), finding)
        for artifact, result in zip(artifacts, results, strict=True)
        for finding in findings_of(result)
    ]
    rules = list({rule.id: rule for rule in (*RULES, *(finding.rule for _, finding in findings))}.values())
    run = {
        "tool": {"driver": _driver(results, rules)},
        "invocations": [_invocation(result) for result in results],
        "artifacts": listed,
        "results": [_result(index, finding, rules) for index, finding in findings],
        "columnKind": "unicodeCodePoints",
        "properties": {"models": [_evidence(result) for result in results]},
    }
    return to_json({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]})


def _driver(results: Sequence[ScanResult], rules: Sequence[Rule]) -> dict[str, Any]:
    return {
        "name": "backscan",
        "fullName": "backscan, a scanner for backdoors in ONNX image classifiers",
        "version": results[0].provenance.version if results else "0",
        "rules": [_descriptor(rule) for rule in rules],
    }


def _descriptor(rule: Rule) -> dict[str, Any]:
    return {
        "id": printable(rule.id),
        "name": printable(rule.name),
        "shortDescription": _message(rule.short),
        "fullDescription": _message(rule.short),
        "help": {"text": printable(rule.help), "markdown": printable(rule.help)},
        "defaultConfiguration": {"level": rule.level},
        "properties": {"tags": _tags(rule), "precision": "high", "security-severity": f"{rule.severity:.1f}"},
    }


def _tags(rule: Rule) -> list[str]:
    """What dashboards group by; CWE and ATLAS in the form in which GitHub writes identifiers of others."""
    return [*_TAGS, *(f"external/mitre-atlas/{name.lower()}" for name in rule.techniques)]


def _invocation(result: ScanResult) -> dict[str, Any]:
    """What weakens the evidence and what was not tested are notifications of the run, not findings."""
    notes = [("warning", text) for text in result.warnings] + [("note", text) for text in result.not_tested]
    return {
        "commandLine": printable(result.provenance.command),
        "executionSuccessful": result.verdict is not Verdict.NO_VERDICT,
        "toolExecutionNotifications": [{"level": level, "message": _message(text)} for level, text in notes],
    }


def _artifact(result: ScanResult) -> dict[str, Any]:
    return {
        "location": {"uri": _uri(result.model.name)},
        "length": result.model.num_bytes,
        "hashes": {"sha-256": result.model.sha256},
        "mimeType": "application/octet-stream",
        "roles": ["analysisTarget"],
    }


def _result(index: int, finding: Finding, rules: Sequence[Rule]) -> dict[str, Any]:
    # Dashboards want a line even in a binary file.
    place: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(finding.model), "index": index},
            "region": {"startLine": 1},
        }
    }
    if finding.nodes:
        place["logicalLocations"] = [{"name": printable(node), "kind": "element"} for node in finding.nodes]
    return {
        "ruleId": printable(finding.rule.id),
        "ruleIndex": [rule.id for rule in rules].index(finding.rule.id),
        "level": finding.level,
        "message": _message(finding.message),
        "locations": [place],
        "partialFingerprints": {"backscanFinding/v1": finding.fingerprint},
        "properties": {"source": finding.source, "target": finding.target},
    }


def _evidence(result: ScanResult) -> dict[str, Any]:
    return {
        "model": printable(result.model.name),
        "verdict": result.verdict.value,
        "pValue": result.p_value,
        "calibratedPValue": result.calibrated_p_value,
        "significance": result.significance,
    }


def _message(text: str) -> dict[str, str]:
    """Braces and brackets have a meaning in SARIF messages: placeholders and links."""
    shown = printable(text).replace("{", "{{").replace("}", "}}")
    return {"text": shown.replace("[", "\\[").replace("]", "\\]")}


def _uri(name: str) -> str:
    return quote(name, safe="/", errors="replace") or "unnamed"
