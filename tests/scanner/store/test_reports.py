"""JSON reports read back: whatever is none is refused; `reports/test_json_doc.py` has the round trips."""

from __future__ import annotations

import pytest

from backscan.scanner.errors import ReportError
from backscan.scanner.store.reports import parse


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no JSON"),
        ("[]", "found a JSON list"),
        ("{}", "without a schema_version: pass the file"),
        ('{"schema_version": "0"}', "schema version"),
        ('{"schema_version": "1", "reports": 3}', "list of JSON reports"),
        ('{"schema_version": "1", "reports": [3]}', "list of JSON reports"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_what_is_no_report_is_refused(text: str, said: str) -> None:
    with pytest.raises(ReportError, match=said):
        parse(text)
