"""The attestation against in-toto's own bindings."""

import json

import pytest
from google.protobuf.json_format import ParseDict
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from backscan.scanner.reports import render
from tests.scanner.reports.examples import ALL, detected, inconclusive, no_verdict, not_detected
from tests.scanner.reports.golden import check


@pytest.mark.parametrize("example", ALL)
def test_valid_by_in_totos_bindings(example: str) -> None:
    statement = ParseDict(json.loads(render(ALL[example](), "attestation")), StatementMessage())
    assert statement.type == "https://in-toto.io/Statement/v1"
    assert statement.predicate_type
    for subject in statement.subject:
        ResourceDescriptor.copy_from_pb(subject).validate()
        assert subject.digest["sha256"]


def test_golden() -> None:
    check("detected_3.intoto.json", render(ALL["detected_3"](), "attestation"))


@pytest.mark.parametrize(
    ("make", "outcome"),
    [(detected, "FAILED"), (not_detected, "PASSED"), (inconclusive, "WARNED"), (no_verdict, "WARNED")],
)
def test_the_outcome_follows_the_verdict(make: object, outcome: str) -> None:
    predicate = json.loads(render(make(), "attestation"))["predicate"]  # type: ignore[operator]
    assert predicate["result"] == outcome
    assert predicate[f"{outcome.lower()}Tests"] == ["no-backdoor-detected"]


def test_model_data_and_options_are_named_by_digest() -> None:
    statement = json.loads(render(detected(), "attestation"))
    assert statement["subject"] == [{"name": "resnet20.onnx", "digest": {"sha256": "9f" * 32}}]
    options, data = statement["predicate"]["configuration"]
    assert len(options["digest"]["sha256"]) == 64
    assert data == {"name": "images.npz", "digest": {"sha256": "ab" * 32}}


def test_several_models_are_a_bundle() -> None:
    lines = render([detected(), no_verdict()], "attestation").splitlines()
    assert [json.loads(line)["subject"][0]["name"] for line in lines] == ["resnet20.onnx", "strange.onnx"]
