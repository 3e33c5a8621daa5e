"""Small files whose values grow without bound are refused by counting; what stays within the limit is not."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from backscan.converters.intake.audit import audit
from backscan.converters.intake.policy import Policy
from benchmarks.hostile.models import classifier, doubling


@pytest.mark.parametrize(("operator", "repeats"), [("Concat", ()), ("Tile", (1, 2)), ("Resize", (1, 2))])
def test_doubling_is_refused_where_it_passes_the_limit(operator: str, repeats: tuple[int, ...]) -> None:
    assert audit(doubling(10, operator, repeats), Policy(max_elements=1024)).accepted
    (violation,) = audit(doubling(11, operator, repeats), Policy(max_elements=1024)).violations
    assert (violation.rule, violation.actual) == ("max_elements", 2048.0)


def test_doubling_of_a_stored_tensor_counts_its_elements() -> None:
    node = helper.make_node("Concat", ["table", "table"], ["long"], name="long", axis=0)
    model = classifier([node, helper.make_node("Identity", ["logits"], ["scores"])],
                       [numpy_helper.from_array(np.zeros((20, 50), np.float32), "table")])  # fmt: skip
    assert [v.actual for v in audit(model.SerializeToString(), Policy(max_elements=1024)).violations] == [2000.0]


def test_large_stored_tensor_that_does_not_grow_is_allowed() -> None:
    nodes = [
        helper.make_node("Cast", ["table"], ["wide"], name="wide", to=1),
        helper.make_node("Transpose", ["wide"], ["turned"], name="turned"),
        helper.make_node("Identity", ["logits"], ["scores"]),
    ]
    model = classifier(nodes, [numpy_helper.from_array(np.zeros((40, 50), np.float16), "table")])
    assert audit(model.SerializeToString(), Policy(max_elements=1024)).accepted
