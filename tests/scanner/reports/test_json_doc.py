import json

import pytest

from backscan.scanner.reports import render
from backscan.scanner.store.reports import parse
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
