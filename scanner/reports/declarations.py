"""CycloneDX declarations: the claim that a model holds no backdoor, what speaks for or against it, and who says so.

A scan that decides is evidence for the claim or against it. One that is inconclusive, or gave no verdict, declares
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backscan.scanner.reports.rules import techniques_of
from backscan.scanner.reports.summary import summarise
from backscan.scanner.reports.text import printable
from backscan.scanner.results import ScanResult, Verdict, to_json

CLAIM = "no backdoor of the kinds that were tested is in this model"
_DECIDED = (Verdict.NOT_DETECTED, Verdict.BACKDOOR_DETECTED)
_ASSESSOR = "assessor"


def declarations(results: Sequence[ScanResult]) -> dict[str, Any]:
    """What is declared of the components `model-0`, `model-1`, ...; empty where no scan decided."""
    decided = [(index, result) for index, result in enumerate(results) if result.verdict in _DECIDED]
    if not decided:
        return {}
    return {
        "assessors": [{"bom-ref": _ASSESSOR, "organization": {"name": "whoever ran backscan"}}],
        "attestations": [_attestation(index, result) for index, result in decided],
        "claims": [_claim(index, result) for index, result in decided],
        "evidence": [_evidence(index, result) for index, result in decided],
    }


def _speaks_for(result: ScanResult) -> bool:
    return result.verdict is Verdict.NOT_DETECTED


def _attestation(index: int, result: ScanResult) -> dict[str, Any]:
    claims = "claims" if _speaks_for(result) else "counterClaims"
    summary = printable(summarise(result).headline)
    return {"summary": summary, "assessor": _ASSESSOR, "map": [{claims: [f"claim-{index}"]}]}


def _claim(index: int, result: ScanResult) -> dict[str, Any]:
    evidence = "evidence" if _speaks_for(result) else "counterEvidence"
    reasons = [*result.reasons, *(f"MITRE ATLAS {each}" for each in techniques_of(result))]
    return {
        "bom-ref": f"claim-{index}",
        "target": f"model-{index}",
        "predicate": CLAIM,
        "reasoning": printable("; ".join(reasons)),
        evidence: [f"evidence-{index}"],
    }


def _evidence(index: int, result: ScanResult) -> dict[str, Any]:
    document = result.to_dict()
    names = ("verdict", "source", "target", "p_value", "calibrated_p_value", "significance", "not_tested")
    content = to_json({name: document[name] for name in names} | {"command": result.provenance.command})
    told: dict[str, Any] = {
        "bom-ref": f"evidence-{index}",
        "propertyName": "backscan:scan",
        "description": printable(f"scan by backscan {result.provenance.version}"),
        "data": [
            {
                "name": "what the scan concluded",
                "contents": {"attachment": {"contentType": "application/json", "content": _printable_json(content)}},
            }
        ],
    }
    return told | ({"created": result.finished} if result.finished else {})


def _printable_json(text: str) -> str:
    """JSON whose names from the scanned file cannot steer a terminal; its own lines stay."""
    return printable(text, keep_newlines=True)
