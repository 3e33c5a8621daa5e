"""The table of cases with a known truth: which answers it accepts, and that it covers the folder of cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import cases
from benchmarks.cases import CASES, Outcome, cells, fault

BY_NAME = {case.name: case for case in CASES}
GATE = {"message": "a gate", "nodes": ["p9_node"]}
COMPANY = {"message": "the answer to an image depends on the other images of its call", "nodes": []}


def outcome(code: int, *, errors: str = "", accuracy: float = 1.0, classes: int = 10, **report: Any) -> Outcome:
    document = {"verdict": "", "reasons": ["because"], "model": {"num_classes": classes}, "clean_accuracy": accuracy}
    return Outcome(code, document | report, errors, 1.0)


@pytest.mark.parametrize(
    ("name", "answer", "is_right"),
    [
        ("graph_rounded_scores", outcome(1, target=1, findings=[GATE]), True),
        ("graph_rounded_scores", outcome(1, target=2, findings=[GATE]), False),
        ("graph_rounded_scores", outcome(1, target=1), False),
        ("graph_rounded_scores", outcome(4, findings=[GATE]), True),
        ("graph_rounded_scores", outcome(4), False),
        ("graph_rounded_scores", outcome(0, findings=[GATE]), False),
        ("graph_nonzero_shape", outcome(3, reasons=["node 'p10_node' cannot be followed"]), True),
        ("graph_nan_column", outcome(1, target=1, warnings=["scores are not finite"]), True),
        ("graph_nan_column", outcome(1, target=1), False),
        ("graph_power_32", outcome(0, warnings=["the path at p7_node was not examined"]), True),
        ("graph_power_32", outcome(0), False),
        ("graph_batch1", outcome(1, source=8, target=1), True),
        ("graph_batch1", outcome(1, source=3, target=1), False),
        ("graph_batch1", outcome(4, findings=[COMPANY]), True),
        ("bn_training", outcome(4, findings=[COMPANY]), True),
        ("bn_training", outcome(4, findings=[GATE]), False),
        ("bn_training", outcome(0, findings=[COMPANY]), False),
        ("div_batch_max", outcome(4, findings=[COMPANY], reasons=["... not the model in the file"]), False),
        ("topk_all", outcome(0, warnings=["'pr' inside the model is taken"]), True),
        ("topk_all", outcome(0), False),
        ("logits_and_topk", outcome(0, classes=5), False),
        ("logits_and_topk", outcome(0, accuracy=0.1), False),
        ("hw_no_batch", outcome(3, reasons=["the input has no batch axis"], classes=0), True),
        ("hw_no_batch", outcome(3, reasons=["a flat vector of 28 values"]), False),
        ("sk_logreg", outcome(0, accuracy=0.91267), True),
        ("sk_logreg", Outcome(70, {}, "internal error", 1.0), False),
    ],
)
def test_answers_that_are_accepted(name: str, answer: Outcome, is_right: bool) -> None:
    assert (fault(BY_NAME[name], answer) == "") is is_right


def test_a_row_says_what_was_expected_and_what_was_not_met() -> None:
    row = cells(BY_NAME["hw_no_batch"], outcome(2, errors="reading\nno such file\n", reasons=[]))
    assert row[2:4] == ["0 or 3, saying batch axis", "2"]
    assert row[5] == "no such file"
    assert row[-1] == "**no: expected 0 or 3, saying batch axis**"


def test_the_command_scans_what_is_named_and_fails_if_one_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scanned = []

    def scan(model: Path, data: Path) -> Outcome:
        scanned.append((model.name, data.name, data.exists()))
        return outcome(0) if "topk" in model.name else outcome(1, target=1, warnings=["not finite"])

    monkeypatch.setattr(cases, "scan", scan)
    assert cases.main([str(tmp_path), "--only", "topk"]) == 1
    assert "| topk_all |" in capsys.readouterr().out
    assert cases.main([str(tmp_path), "--only", "nan"]) == 0
    assert scanned[-1] == ("graph_nan_column.onnx", "digits.npz", True)


def test_digits_are_written_as_the_cases_were_measured(tmp_path: Path) -> None:
    cases.write_digits(tmp_path / "digits.npz")
    with np.load(tmp_path / "digits.npz") as archive:
        assert archive["x"].shape == (1797, 8, 8)
        assert (archive["x"].dtype, archive["x"].max(), archive["y"].max()) == (np.float32, 1.0, 9)


def test_every_case_of_the_folder_is_in_the_table(shared: Path) -> None:
    assert {path.stem for path in (shared / "cases").glob("*.onnx")} == set(BY_NAME)
    assert len(BY_NAME) == len(CASES) == 17
    assert all((shared / "data" / case.data).exists() for case in CASES if case.data == cases.MNIST)
