"""A CycloneDX ML-BOM: the scanned model as a component, its images as data, a detection as a vulnerability."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.impact_analysis import ImpactAnalysisState
from cyclonedx.model.vulnerability import BomTarget, Vulnerability, VulnerabilityAnalysis, VulnerabilitySource
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion

from backscan.scanner.reports.declarations import declarations
from backscan.scanner.reports.display import Display
from backscan.scanner.reports.rules import Finding, findings_of
from backscan.scanner.reports.summary import summarise
from backscan.scanner.reports.text import printable
from backscan.scanner.results import ScanResult, to_json

_CWES = (506, 912)  # embedded malicious code, hidden functionality


def render(results: Sequence[ScanResult], display: Display) -> str:
    """One bill of materials for all models; the same scans give the same serial number."""
    del display  # a file
    bom = Bom(serial_number=_serial_number(results))
    for tool in {result.provenance.version: result for result in results}:
        bom.metadata.tools.components.add(Component(name="backscan", version=tool, type=ComponentType.APPLICATION))
    for index, result in enumerate(results):
        _add(bom, index, result)
    written = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string()
    document = json.loads(written)
    document["metadata"].pop("timestamp", None)  # optional, and equal scans give equal bytes
    declared = declarations(results)
    return to_json(_with_model_cards(document, results) | ({"declarations": declared} if declared else {}))


def _add(bom: Bom, index: int, result: ScanResult) -> None:
    model = Component(
        name=printable(result.model.name),
        bom_ref=f"model-{index}",
        type=ComponentType.MACHINE_LEARNING_MODEL,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=result.model.sha256)],
        properties=_properties(result),
    )
    bom.components.add(model)
    used = []
    if result.data is not None:
        data = Component(
            name=printable(result.data.name),
            bom_ref=f"data-{index}",
            type=ComponentType.DATA,
            description="images and labels the model was scanned with",
            properties=[Property(name="backscan:digest", value=result.data.digest)],
        )
        bom.components.add(data)
        used.append(Dependency(data.bom_ref))
    bom.dependencies.add(Dependency(model.bom_ref, used))
    for number, finding in enumerate(each for each in findings_of(result) if each.level == "error"):
        bom.vulnerabilities.add(_vulnerability(finding, f"finding-{index}-{number}", f"model-{index}"))


def _properties(result: ScanResult) -> Iterable[Property]:
    values = {
        "verdict": result.verdict.value,
        "p_value": result.p_value,
        "calibrated_p_value": result.calibrated_p_value,
        "significance": result.significance,
        "source": result.source,
        "target": result.target,
        "command": result.provenance.command,
    }
    return [
        Property(name=f"backscan:{name}", value=printable(str(value)))
        for name, value in values.items()
        if value is not None
    ]


def _vulnerability(finding: Finding, reference: str, model: str) -> Vulnerability:
    return Vulnerability(
        bom_ref=reference,
        id=printable(finding.rule.id),
        source=VulnerabilitySource(name="backscan"),
        description=printable(finding.message),
        detail=printable(finding.rule.short),
        recommendation=printable(finding.rule.help),
        cwes=_CWES,
        affects=[BomTarget(ref=model)],
        analysis=VulnerabilityAnalysis(state=ImpactAnalysisState.IN_TRIAGE),
        properties=[Property(name="backscan:fingerprint", value=finding.fingerprint)],
    )


def _with_model_cards(document: dict[str, Any], results: Sequence[ScanResult]) -> dict[str, Any]:
    """The library knows no model cards, so they are put into what it wrote."""
    for component in document.get("components", []):
        kind, _, index = component["bom-ref"].partition("-")
        if kind == "model":
            component["modelCard"] = _model_card(results[int(index)], int(index))
    return document


def _model_card(result: ScanResult, index: int) -> dict[str, Any]:
    summary = summarise(result)
    card: dict[str, Any] = {"modelParameters": {"task": "image classification"}}
    if result.model.signature is not None:
        card["modelParameters"] |= {
            "inputs": [{"format": "image"}],
            "outputs": [{"format": printable(result.model.signature.output_kind)}],
        }
    if result.clean_accuracy is not None and result.data is not None:
        metric = {"type": "accuracy", "value": f"{result.clean_accuracy:.4f}", "slice": printable(result.data.name)}
        card["quantitativeAnalysis"] = {"performanceMetrics": [metric]}
    limits = [printable(text) for text in (summary.headline, summary.power, *result.not_tested)]
    card["considerations"] = {"technicalLimitations": limits}
    card["bom-ref"] = f"card-{index}"
    return card


def _serial_number(results: Sequence[ScanResult]) -> uuid.UUID:
    """From the content without timings, so that the same scan has the same number."""
    documents = [{**result.to_dict(), "timings": {}} for result in results]
    digest = hashlib.sha256(json.dumps(documents, sort_keys=True).encode()).digest()
    return uuid.UUID(bytes=digest[:16], version=4)
