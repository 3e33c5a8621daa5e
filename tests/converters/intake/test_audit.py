"""The intake's judgement of what surrounds a graph."""

from __future__ import annotations

import pytest
from onnx import helper

from backscan.converters.intake.audit import audit
from benchmarks.hostile.models import classifier


@pytest.mark.parametrize(
    ("added", "accepted"), [(("", 17), True), (("ai.onnx", 17), True), (("", 16), False), (("ai.onnx", 18), False)]
)
def test_operators_listed_twice_contradict_only_with_two_versions(added: tuple[str, int], accepted: bool) -> None:
    """skl2onnx lists the standard operators twice with `zipmap=False`, both times in the same version."""
    model = classifier()
    model.opset_import.append(helper.make_opsetid(*added))
    report = audit(model.SerializeToString())
    assert report.accepted is accepted
    assert [violation.rule for violation in report.violations] == ([] if accepted else ["opset-repeated"])
