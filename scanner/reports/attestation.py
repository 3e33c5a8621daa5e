"""An in-toto statement (v1), so that the verdict can travel with the model; sign it with the tool you trust.

The predicate is in-toto's test result (v0.1) with one more member, `backscan`, that holds the evidence in numbers.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from backscan.scanner.reports.display import Display
from backscan.scanner.reports.rules import findings_of
from backscan.scanner.reports.text import printable
from backscan.scanner.results import ScanResult, Verdict, to_json

_OUTCOMES = {
    Verdict.BACKDOOR_DETECTED: "FAILED",
    Verdict.NOT_DETECTED: "PASSED",
    Verdict.INCONCLUSIVE: "WARNED",
    Verdict.NO_VERDICT: "WARNED",
}
_TEST = "no-backdoor-detected"


def render(results: Sequence[ScanResult], display: Display) -> str:
    """One statement; several models are a bundle, one statement per line."""
    del display  # a file
    if len(results) == 1:
        return to_json(_statement(results[0]))
    return "".join(json.dumps(_statement(result), allow_nan=False) + "\n" for result in results)


def _statement(result: ScanResult) -> dict[str, Any]:
    outcome = _OUTCOMES[result.verdict]
    predicate = {
        "result": outcome,
        "configuration": _configuration(result),
        "passedTests": [_TEST] if outcome == "PASSED" else [],
        "warnedTests": [_TEST] if outcome == "WARNED" else [],
        "failedTests": [_TEST] if outcome == "FAILED" else [],
        "backscan": _evidence(result),
    }
    return statement_about(result, "https://in-toto.io/attestation/test-result/v0.1", predicate)


def statement_about(result: ScanResult, predicate_type: str, predicate: dict[str, Any]) -> dict[str, Any]:
    """An in-toto statement whose subject is the scanned file."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": printable(result.model.name), "digest": {"sha256": result.model.sha256}}],
        "predicateType": predicate_type,
        "predicate": predicate,
    }


def options_by_digest(result: ScanResult) -> dict[str, Any]:
    """The options of a scan as a resource descriptor."""
    options = json.dumps(result.to_dict()["config"], sort_keys=True)
    return {"name": "options", "digest": {"sha256": hashlib.sha256(options.encode()).hexdigest()}}


def _configuration(result: ScanResult) -> list[dict[str, Any]]:
    """What the outcome depends on: the options and the images, by digest."""
    sources = [options_by_digest(result)]
    if result.data is not None:
        is_sha256 = re.fullmatch("[0-9a-f]{64}", result.data.digest) is not None
        digest = {"sha256" if is_sha256 else "backscan": result.data.digest}
        sources.append({"name": printable(result.data.name), "digest": digest})
    return sources


def _evidence(result: ScanResult) -> dict[str, Any]:
    document = result.to_dict()
    copied = (
        "verdict",
        "source",
        "target",
        "p_value",
        "calibrated_p_value",
        "bootstrap_draws",
        "significance",
        "config",
    )
    return {
        "version": result.provenance.version,
        **{name: document[name] for name in copied},
        "confirmed_by_original": result.verification.confirmed if result.verification else None,
        "reasons": [printable(reason) for reason in result.reasons],
        "not_tested": [printable(text) for text in result.not_tested],
        "findings": [finding.fingerprint for finding in findings_of(result)],
        "libraries": result.provenance.libraries,
    }
