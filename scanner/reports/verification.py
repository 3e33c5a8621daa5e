"""An in-toto simple verification result (SVR v0.2): what a scan found in order, for policies that ask for that alone.

It names passing properties only, so a model that was detected, or could not be judged, has none; the test result beside
it (`attestation`) says why.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from backscan.scanner.reports.attestation import options_by_digest, statement_about
from backscan.scanner.reports.display import Display
from backscan.scanner.results import ScanResult, Verdict, to_json

NO_BACKDOOR = "BACKSCAN_NO_BACKDOOR_DETECTED"
NO_SWITCH = "BACKSCAN_NO_SWITCH_IN_GRAPH"
# Reports of 1.0 do not say when they were made: a time that no policy of freshness accepts.
_LONG_AGO = "1970-01-01T00:00:00Z"


def render(results: Sequence[ScanResult], display: Display) -> str:
    """One statement; several models are a bundle, one statement per line."""
    del display  # a file
    if len(results) == 1:
        return to_json(_statement(results[0]))
    return "".join(json.dumps(_statement(result), allow_nan=False) + "\n" for result in results)


def verifier_of(result: ScanResult) -> str:
    """What scanned, as a URI with its version."""
    return f"pkg:generic/backscan@{result.provenance.version}"


def time_of(result: ScanResult) -> str:
    """When the scan ended."""
    return result.finished or _LONG_AGO


def _statement(result: ScanResult) -> dict[str, Any]:
    predicate = {
        "verifier": {"id": verifier_of(result), "policies": [options_by_digest(result)]},
        "timeCreated": time_of(result),
        "properties": _properties(result),
    }
    return statement_about(result, "https://in-toto.io/attestation/svr/v0.2", predicate)


def _properties(result: ScanResult) -> list[str]:
    if result.verdict is not Verdict.NOT_DETECTED:
        return []
    return [NO_BACKDOOR, *([] if result.findings else [NO_SWITCH])]
