"""SPDX 3.0.1 with its AI profile: the scanned model as a package, what was measured, by what threshold, its limits.

The profile demands supplier, release time, version and place of download, which a scan does not know: supplier and
place are NOASSERTION, the version is the digest, the time is that of the scan, and a comment says so.
`safetyRiskAssessment` is of the product that a model is part of, so a scan leaves it out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from backscan.scanner.reports.display import Display
from backscan.scanner.reports.rules import techniques_of
from backscan.scanner.reports.summary import summarise
from backscan.scanner.reports.text import printable
from backscan.scanner.reports.verification import time_of
from backscan.scanner.results import ScanResult, to_json

_CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
_CREATION = "_:creation"
_UNKNOWN = (
    "supplier and place of download are not known, the version is the digest of the file, and the release time is "
    "that of the scan"
)


def render(results: Sequence[ScanResult], display: Display) -> str:
    """One document of all models; the same scans give the same identifiers."""
    del display  # a file
    base = f"urn:backscan:{_digest(results)}"
    packages = [_package(result, f"{base}:model-{index}", base) for index, result in enumerate(results)]
    graph = [
        _creation(results, base),
        _element("Agent", f"{base}:agent", name="whoever ran backscan"),
        _element("Agent", f"{base}:supplier", name="NOASSERTION"),
        _element("Tool", f"{base}:tool", name=_tool(results)),
        *packages,
        _element(
            "SpdxDocument",
            f"{base}:document",
            profileConformance=["core", "software", "ai"],
            rootElement=[package["spdxId"] for package in packages],
        ),
    ]
    return to_json({"@context": _CONTEXT, "@graph": graph})


def _element(kind: str, identifier: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "spdxId": identifier, "creationInfo": _CREATION, **fields}


def _creation(results: Sequence[ScanResult], base: str) -> dict[str, Any]:
    return {
        "type": "CreationInfo",
        "@id": _CREATION,
        "specVersion": "3.0.1",
        "created": max(map(time_of, results), default="1970-01-01T00:00:00Z"),
        "createdBy": [f"{base}:agent"],
        "createdUsing": [f"{base}:tool"],
    }


def _tool(results: Sequence[ScanResult]) -> str:
    return f"backscan {results[0].provenance.version if results else '0'}"


def _package(result: ScanResult, identifier: str, base: str) -> dict[str, Any]:
    summary = summarise(result)
    limits = (summary.power, *result.not_tested)
    images = "" if result.data is None else f"scanned with images of digest {result.data.digest}"
    filed = f"MITRE ATLAS {', '.join(techniques_of(result))}" if techniques_of(result) else ""
    comment = "; ".join(filter(None, (summary.headline, filed, images, _UNKNOWN)))
    package = _element(
        "ai_AIPackage",
        identifier,
        name=printable(result.model.name),
        comment=printable(comment),
        suppliedBy=f"{base}:supplier",
        releaseTime=time_of(result),
        software_packageVersion=f"sha256:{result.model.sha256}",
        software_downloadLocation="NOASSERTION",
        software_primaryPurpose="model",
        verifiedUsing=[{"type": "Hash", "algorithm": "sha256", "hashValue": result.model.sha256}],
        ai_typeOfModel=["image classifier"],
        ai_limitation=printable("; ".join(filter(None, limits))),
        ai_metric=[_entry("backscan verdict", result.verdict.value), *_metrics(result)],
    )
    if result.calibrated_p_value is not None:
        package["ai_metricDecisionThreshold"] = [_entry("backscan p-value", f"{result.significance:g}")]
    return package


def _metrics(result: ScanResult) -> list[dict[str, str]]:
    values = {"backscan p-value": result.calibrated_p_value, "clean accuracy": result.clean_accuracy}
    return [_entry(name, f"{value:.6g}") for name, value in values.items() if value is not None]


def _entry(key: str, value: str) -> dict[str, str]:
    return {"type": "DictionaryEntry", "key": key, "value": value}


def _digest(results: Sequence[ScanResult]) -> str:
    documents = [{**result.to_dict(), "timings": {}, "finished": ""} for result in results]
    return hashlib.sha256(json.dumps(documents, sort_keys=True).encode()).hexdigest()[:32]
