"""Scans read back from JSON reports."""

from __future__ import annotations

import json

from backscan.scanner.errors import ReportError
from backscan.scanner.results import ScanResult


def parse(text: str, *, name: str = "the file") -> tuple[ScanResult, ...]:
    """The scans in a JSON report of either form.

    Args:
        text: The whole file.
        name: Its name, for messages.

    Raises:
        ReportError: the text is no report of this version.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_report(name, "text that is no JSON") from error
    if not isinstance(document, dict):
        raise _no_report(name, f"a JSON {type(document).__name__}")
    if "schema_version" not in document:
        raise _no_report(name, "JSON of another kind, without a schema_version")
    reports = document.get("reports", [document])
    if not isinstance(reports, list) or not all(isinstance(report, dict) for report in reports):
        raise ReportError("expected `reports` to be a list of JSON reports, found something else: make it again")
    return tuple(ScanResult.from_dict(report) for report in reports)


def _no_report(name: str, found: str) -> ReportError:
    return ReportError(
        f"expected a JSON report of `scanner check` in {name}, found {found}: pass the file that `--report "
        "FILE.json` wrote"
    )
