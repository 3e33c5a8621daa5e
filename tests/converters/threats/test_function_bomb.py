"""Functions, branches and loops are counted as they would be expanded, without expanding them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from backscan.converters.intake.audit import audit
from backscan.converters.intake.policy import Policy
from benchmarks.hostile.models import classifier


def _loop(trips: TensorProto | None, *, name: str = "trips") -> bytes:
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["state"], ["next"])],
        "body",
        [info("turn", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("state", TensorProto.FLOAT, None)],
        [info("on", TensorProto.BOOL, []), info("next", TensorProto.FLOAT, None)],
    )
    loop = helper.make_node("Loop", [name, "", "logits"], ["scores"], body=body)
    shape = helper.make_node("Shape", ["logits"], ["computed"])
    return classifier([shape, loop], [trips] if trips is not None else []).SerializeToString()


def test_loop_with_a_constant_number_of_turns_is_counted() -> None:
    report = audit(_loop(numpy_helper.from_array(np.array(50), "trips")))
    assert report.accepted
    assert report.num_expanded_nodes == 2 + 1 + 1 + 50 * 2


@pytest.mark.parametrize("trips", [0, -5])
def test_loop_that_never_runs_costs_its_node(trips: int) -> None:
    assert audit(_loop(numpy_helper.from_array(np.array(trips), "trips"))).num_expanded_nodes == 4


def test_computed_number_of_turns_is_refused() -> None:
    assert [v.rule for v in audit(_loop(None, name="computed")).violations] == ["unbounded-loop"]


def test_functions_that_are_used_honestly_are_accepted() -> None:
    opsets = [helper.make_opsetid("", 17)]
    body = [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["y"])]
    silu = helper.make_function("pkg.exporter", "Silu", ["x"], ["y"], body, opsets)
    calls = [
        helper.make_node("Silu", ["logits"], ["once"], domain="pkg.exporter"),
        helper.make_node("Silu", ["once"], ["scores"], domain="pkg.exporter"),
    ]
    model = classifier(calls, extra_opsets=(("pkg.exporter", 1),))
    model.functions.append(silu)
    report = audit(model.SerializeToString())
    assert report.accepted, report.violations
    assert (report.num_functions, report.num_nodes, report.num_expanded_nodes) == (1, 6, 6)


def test_expansion_stops_at_the_limit_of_the_policy() -> None:
    data = _loop(numpy_helper.from_array(np.array(50), "trips"))
    assert [v.rule for v in audit(data, Policy(max_expanded_nodes=100)).violations] == ["max_expanded_nodes"]
