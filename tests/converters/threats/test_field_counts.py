"""Small files that take hundreds of times their size in memory are refused before anything is made of them."""

from __future__ import annotations

import onnx
import pytest
from onnx import ModelProto, helper

from backscan.converters.errors import ArtifactError
from backscan.converters.intake.audit import audit
from backscan.converters.intake.policy import Policy
from benchmarks.hostile.models import HOSTILE_MODELS, classifier

COUNTED = [name for name in HOSTILE_MODELS if "-empty" in name or name in ("quantisation-note-of-3000000",)]
COUNTED.remove("external-empty-location")


@pytest.mark.parametrize("name", [*COUNTED, "numbers-150-megabytes"])
def test_too_many_of_a_kind_are_refused_unparsed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "load_model_from_string", lambda _: pytest.fail("was parsed"))
    (violation,) = audit(HOSTILE_MODELS[name].make()).violations
    assert violation.rule == HOSTILE_MODELS[name].rule
    assert violation.limit is not None
    assert violation.actual is not None
    assert violation.actual > violation.limit


def described(values: int, attributes: int) -> ModelProto:
    model = classifier()
    model.graph.value_info.extend(helper.make_tensor_value_info(f"v{i}", 1, [1, 2]) for i in range(values))
    model.graph.node[0].attribute.extend(helper.make_attribute(f"a{i}", [1, 2, 3]) for i in range(attributes))
    return model


@pytest.mark.parametrize(
    ("limit", "values", "attributes"), [("max_values", 8, 0), ("max_notes", 0, 9), ("max_notes", 5, 0)]
)
def test_each_kind_is_counted_exactly(limit: str, values: int, attributes: int) -> None:
    data = described(values, attributes).SerializeToString()
    counts = {
        "max_values": values + 2,
        "max_notes": max(attributes, 2 * values + 6),
    }  # two axes for each value, six of input and output
    assert audit(data, Policy(**{limit: counts[limit]})).accepted
    (violation,) = audit(data, Policy(**{limit: counts[limit] - 1})).violations
    assert (violation.rule, violation.actual) == (limit, counts[limit])


def test_messages_within_branches_count_with_all_others() -> None:
    data = HOSTILE_MODELS["branches-20-deep"].make()
    total = sum(1 for _ in _nodes(onnx.load_model_from_string(data).graph))
    assert total > 20
    (violation,) = audit(data, Policy(max_nodes=total - 1)).violations
    assert (violation.rule, violation.actual) == ("max_nodes", total)


def _nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    inner = [a.g for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return [*graph.node, *(node for each in inner for node in _nodes(each))]


@pytest.mark.parametrize(
    "tail",
    [b"\x0b\x08\x01\x0c", b"\x3a\x05\x0a", b"\x08", b"\x08" + b"\xff" * 12, b"\x3a\x03\x0a\x09\x00", b"\x45\x01"],
    ids=["group", "short graph", "no number", "endless number", "node beyond its graph", "half a number"],
)
def test_bytes_that_are_no_messages_are_no_model(tail: bytes) -> None:
    with pytest.raises(ArtifactError, match="expected an ONNX model"):
        audit(classifier().SerializeToString() + tail)


def test_fields_that_the_format_does_not_know_are_passed_over() -> None:
    unknown = b"\xfa\x7f\x03\x0a\x01\x00" + b"\xf0\x7f\x80\x01" + b"\xf5\x7f\x00\x00\x00\x00" + b"\xf1\x7f" + bytes(8)
    assert audit(classifier().SerializeToString() + unknown).accepted
    assert not audit(classifier().SerializeToString() + unknown * 20, Policy(max_fields=70)).accepted
