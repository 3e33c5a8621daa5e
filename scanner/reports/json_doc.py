"""The JSON report; `store.reports` reads it."""

from __future__ import annotations

from collections.abc import Sequence

from backscan.scanner.reports.display import Display
from backscan.scanner.results import SCHEMA_VERSION, ScanResult, to_json


def render(results: Sequence[ScanResult], display: Display) -> str:
    """One scan is its own document; several are `{"schema_version", "reports": []}`."""
    del display  # a file
    if len(results) == 1:
        return to_json(results[0].to_dict())
    return to_json({"schema_version": SCHEMA_VERSION, "reports": [result.to_dict() for result in results]})
