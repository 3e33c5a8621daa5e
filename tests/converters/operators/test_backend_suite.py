"""A part of ONNX's own node suite: a few cases an operator at every schema version, onnxruntime as the oracle."""

from __future__ import annotations

import json
import warnings

import pytest
from onnx import defs

from benchmarks.exporters.backend_cases import FURTHER_OPERATORS, OPERATORS, Case, all_cases, statements
from benchmarks.exporters.backend_exceptions import EXCEPTIONS
from benchmarks.exporters.backend_suite import CASE_LIST, MATCH, judge

CASES = {"Attention": 12, "Resize": 8}
"""How many cases of an operator to take, where that is not 3."""

WITHOUT_CASES = {"GlobalLpPool"}


def chosen_cases(operator: str) -> list[Case]:
    cases = [case for case in all_cases(OPERATORS + FURTHER_OPERATORS) if case.operator == operator]
    number = CASES.get(operator, 3)
    return cases[:: max(1, len(cases) // number)][:number]


@pytest.mark.parametrize("operator", [name for name in OPERATORS + FURTHER_OPERATORS if name not in WITHOUT_CASES])
def test_matches_onnxruntime(operator: str) -> None:
    checked = 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning)  # casts of infinite values to integers
        stated = [item for case in chosen_cases(operator) for item in statements(case, defs.onnx_opset_version())]
        for outcome in [judge(item, ["ours"]) for item in stated]:
            if outcome.oracle and not outcome.excepted:
                assert outcome.verdicts["ours"] == MATCH, (outcome.case.name, outcome.version, outcome.oracle)
                checked += 1
    assert checked


def test_the_committed_list_names_the_cases_that_are_made() -> None:
    committed = json.loads(CASE_LIST.read_text())
    assert set(committed) == {case.name for case in all_cases()}
    assert {name for name, _ in EXCEPTIONS} <= set(committed)
