import json

import pytest

from backscan.scanner.errors import ReportError
from backscan.scanner.reports import render
from backscan.scanner.reports.json_doc import parse
from tests.scanner.reports.examples import ALL, detected, no_verdict, without_images
from tests.scanner.reports.golden import check


def test_golden() -> None:
    check("without_images.json", render(without_images(), "json"))


@pytest.mark.parametrize("example", ALL)
def test_what_is_written_reads_back(example: str) -> None:
    result = ALL[example]()
    (again,) = parse(render(result, "json"))
    assert again.to_dict() == result.to_dict()


def test_several_models_are_a_list() -> None:
    document = json.loads(render([detected(3), no_verdict()], "json"))
    assert list(document) == ["schema_version", "reports"]
    assert [report["verdict"] for report in document["reports"]] == ["backdoor_detected", "no_verdict"]
    assert len(parse(json.dumps(document))) == 2


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
