"""Every entry of the table of hostile models meets the rule it is meant for, quickly, and in a usable sentence."""

from __future__ import annotations

import math
import time

import pytest

from backscan.converters.errors import ArtifactError, LimitExceededError, PolicyError
from backscan.converters.intake.audit import audit, enforce
from backscan.converters.intake.policy import Policy
from benchmarks.hostile.models import HOSTILE_MODELS, classifier

AT_THE_INTAKE = [name for name, entry in HOSTILE_MODELS.items() if entry.rule not in (None, "unreadable")]
UNREADABLE = [name for name, entry in HOSTILE_MODELS.items() if entry.rule == "unreadable"]


@pytest.mark.parametrize("name", AT_THE_INTAKE)
def test_model_meets_its_rule(name: str) -> None:
    data = HOSTILE_MODELS[name].make()
    start = time.process_time()
    report = audit(data)
    assert time.process_time() - start < 20
    violation = next(v for v in report.violations if v.rule == HOSTILE_MODELS[name].rule)
    assert violation.message.isprintable()
    assert len(violation.message) < 400
    if violation.rule.startswith("max_"):
        assert violation.limit is not None
        assert violation.actual is not None
        assert violation.actual > violation.limit == float(getattr(Policy(), violation.rule))
    with pytest.raises(PolicyError):
        enforce(report)


@pytest.mark.parametrize("name", UNREADABLE)
def test_bytes_that_are_no_model_are_named_so(name: str) -> None:
    with pytest.raises(ArtifactError, match="expected an ONNX model"):
        audit(HOSTILE_MODELS[name].make())


def test_model_without_faults_is_accepted() -> None:
    report = audit(classifier().SerializeToString())
    assert report.accepted
    enforce(report)
    assert report.operators == {"Flatten": 1, "MatMul": 1, "Identity": 1}
    assert (report.num_nodes, report.num_expanded_nodes, report.num_tensors) == (3, 3, 1)
    assert report.largest_tensor == 64 * 3 * 4
    assert report.opsets == {"": 17}


def test_limit_is_an_error_with_limit_and_actual() -> None:
    report = audit(classifier().SerializeToString(), Policy(max_nodes=2))
    with pytest.raises(LimitExceededError, match=r"at most 2 nodes.*found 3.*raise `max_nodes`") as caught:
        enforce(report)
    assert (caught.value.rule, caught.value.limit, caught.value.actual) == ("max_nodes", 2, 3)


def test_every_limit_can_be_raised() -> None:
    data = HOSTILE_MODELS["functions-10^9"].make()
    assert audit(data, Policy(max_expanded_nodes=10**10)).accepted
    assert audit(data).num_expanded_nodes == 10**9 + 2


def test_a_report_holds_finite_numbers() -> None:
    for name in AT_THE_INTAKE:
        report = audit(HOSTILE_MODELS[name].make(), Policy(max_nodes=1000, max_tensors=1000))
        assert all(math.isfinite(v.actual or 0) for v in report.violations)
