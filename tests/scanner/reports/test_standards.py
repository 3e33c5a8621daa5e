"""Identifiers that security teams file by: techniques of ATLAS, in-toto's summary, CycloneDX declarations, SPDX."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from backscan.scanner.reports import render
from backscan.scanner.reports.rules import ATLAS, RULES, findings_of, techniques_of
from backscan.scanner.results import ScanResult, Verdict
from tests.scanner.reports.examples import ALL, detected, inconclusive, no_verdict, not_detected, with_findings


def read(result: ScanResult | list[ScanResult], form: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(render(result, form))
    return document


def test_a_detection_is_filed_by_what_was_found() -> None:
    assert techniques_of(detected()) == ("AML.T0018.000 (Poison AI Model)", "AML.T0043.004 (Insert Backdoor Trigger)")
    assert "AML.T0018.001 (Modify AI Model Architecture)" in techniques_of(with_findings())
    assert techniques_of(not_detected()) == techniques_of(inconclusive()) == techniques_of(no_verdict()) == ()


def test_sarif_tags_and_the_page_say_so_too() -> None:
    rules = {
        rule["id"]: rule["properties"]["tags"]
        for rule in read(detected(), "sarif")["runs"][0]["tool"]["driver"]["rules"]
    }
    assert {"external/mitre-atlas/aml.t0018.000", "external/cwe/cwe-506"} <= set(rules["backdoor-detected"])
    assert not any("atlas" in tag for tag in rules["inconclusive"])
    assert "In MITRE ATLAS: AML.T0018.000 (Poison AI Model)" in render(detected(), "html")
    assert "MITRE ATLAS" not in render(not_detected(), "html")


def test_every_technique_of_a_rule_has_its_name() -> None:
    assert {name for rule in RULES for name in rule.techniques} == ATLAS.keys()


@pytest.mark.parametrize("example", ALL)
def test_the_summary_names_what_passed_and_nothing_else(example: str) -> None:
    result: ScanResult = ALL[example]()  # type: ignore[operator]
    statement = read(result, "verification")
    assert statement["predicateType"] == "https://in-toto.io/attestation/svr/v0.2"
    assert statement["subject"] == read(result, "attestation")["subject"]
    predicate = statement["predicate"]
    assert set(predicate) == {"verifier", "timeCreated", "properties"}
    assert predicate["verifier"]["policies"] == read(result, "attestation")["predicate"]["configuration"][:1]
    passed = result.verdict is Verdict.NOT_DETECTED
    assert ("BACKSCAN_NO_BACKDOOR_DETECTED" in predicate["properties"]) == passed == bool(predicate["properties"])
    assert "BACKSCAN_NO_SWITCH_IN_GRAPH" not in predicate["properties"] or not findings_of(result)


def test_a_report_without_a_time_is_never_fresh() -> None:
    assert read(replace(not_detected(), finished=""), "verification")["predicate"]["timeCreated"].startswith("1970")
    assert read(not_detected(), "verification")["predicate"]["timeCreated"] == not_detected().finished


def test_a_decision_is_evidence_for_or_against_the_claim() -> None:
    for result, key, way in ((not_detected(), "evidence", "claims"), (detected(), "counterEvidence", "counterClaims")):
        declared = read(result, "bom")["declarations"]
        [claim], [evidence], [attestation] = declared["claims"], declared["evidence"], declared["attestations"]
        assert claim[key] == [evidence["bom-ref"]]
        assert attestation["map"] == [{way: [claim["bom-ref"]]}]
        assert attestation["assessor"] == declared["assessors"][0]["bom-ref"]
        told = json.loads(evidence["data"][0]["contents"]["attachment"]["content"])
        assert told["verdict"] == result.verdict.value


def test_what_was_not_decided_declares_nothing() -> None:
    assert "declarations" not in read([inconclusive(), no_verdict()], "bom")
    mixed = read([inconclusive(), not_detected()], "bom")
    assert [claim["target"] for claim in mixed["declarations"]["claims"]] == ["model-1"]
    assert "model-1" in {each["bom-ref"] for each in mixed["components"]}


# What the AI profile of SPDX 3.0.1 demands of a package beyond its type.
DEMANDED = {
    "suppliedBy",
    "releaseTime",
    "software_packageVersion",
    "software_downloadLocation",
    "software_primaryPurpose",
    "name",
}


@pytest.mark.parametrize("example", ALL)
def test_the_package_has_what_the_profile_demands(example: str) -> None:
    result: ScanResult = ALL[example]()  # type: ignore[operator]
    document = read(result, "spdx")
    assert document["@context"] == "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
    elements = {each.get("spdxId", each.get("@id")): each for each in document["@graph"]}
    assert len(elements) == len(document["@graph"])
    [package] = [each for each in elements.values() if each["type"] == "ai_AIPackage"]
    assert package.keys() >= DEMANDED
    assert package["verifiedUsing"] == [{"type": "Hash", "algorithm": "sha256", "hashValue": result.model.sha256}]
    metrics = {each["key"]: each["value"] for each in package["ai_metric"]}
    assert metrics["backscan verdict"] == result.verdict.value
    assert "ai_safetyRiskAssessment" not in package
    thresholds = {each["key"] for each in package.get("ai_metricDecisionThreshold", ())}
    assert thresholds <= metrics.keys(), "every threshold belongs to a metric"
    [creation] = [each for each in elements.values() if each["type"] == "CreationInfo"]
    named = {package["suppliedBy"], *creation["createdBy"], *creation["createdUsing"]}
    [document_element] = [each for each in elements.values() if each["type"] == "SpdxDocument"]
    assert named | set(document_element["rootElement"]) <= elements.keys()


def test_the_same_scan_has_the_same_identifiers() -> None:
    slow = replace(detected(), timings={"search": 9000.0})
    assert render(slow, "spdx") == render(detected(), "spdx") != render(not_detected(), "spdx")
