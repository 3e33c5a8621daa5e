"""The bill of materials against CycloneDX's own strict schema."""

import json
from dataclasses import replace

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from backscan.scanner.reports import render
from tests.scanner.reports.examples import ALL, detected, no_verdict, not_detected
from tests.scanner.reports.golden import check


def bom(*results: object) -> dict:
    return json.loads(render(list(results), "bom"))  # type: ignore[arg-type]


@pytest.mark.parametrize("example", ALL)
def test_valid_by_the_official_schema(example: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(render(ALL[example](), "bom")) is None


def test_golden() -> None:
    check("detected_3.cdx.json", render(ALL["detected_3"](), "bom"))


def test_the_model_carries_its_digest_verdict_and_card() -> None:
    document = bom(detected())
    (model,) = [each for each in document["components"] if each["type"] == "machine-learning-model"]
    assert model["hashes"] == [{"alg": "SHA-256", "content": "9f" * 32}]
    assert {"name": "backscan:verdict", "value": "backdoor_detected"} in model["properties"]
    assert model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0]["value"] == "0.9123"


def test_only_a_detection_is_a_vulnerability() -> None:
    assert [each["id"] for each in bom(detected())["vulnerabilities"]] == ["backdoor-detected"]
    assert "vulnerabilities" not in bom(not_detected())
    assert "vulnerabilities" not in bom(no_verdict())


def test_several_models_are_several_components() -> None:
    document = bom(detected(), no_verdict())
    names = [each["name"] for each in document["components"] if each["type"] == "machine-learning-model"]
    assert sorted(names) == ["resnet20.onnx", "strange.onnx"]
    assert [each["affects"][0]["ref"] for each in document["vulnerabilities"]] == ["model-0"]


def test_the_serial_number_is_of_the_scan_not_of_its_duration() -> None:
    slow = replace(detected(), timings={"search": 9000.0})
    assert bom(slow)["serialNumber"] == bom(detected())["serialNumber"] != bom(not_detected())["serialNumber"]
