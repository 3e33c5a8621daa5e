"""The table of real models: what counts as right, which detector found what, and that a killed run continues."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from backscan.scanner import ScanConfig
from benchmarks import real_models
from benchmarks.real_models import Conclusion, KnownModel, Row, found_by, is_right, table

ATTACKED = KnownModel("attacked", "digits", "4 -> 7", target=7, source=4)
UNATTACKED = KnownModel("unattacked", "digits", "unattacked")


def conclusion(detector: str, source: int | None, target: int, p_value: float | None) -> Conclusion:
    return Conclusion(detector, "plain", source, target, p_value, p_value, None, detected=False, significance=0.05)


def index(target: int, value: float, *, detected: bool) -> Conclusion:
    return Conclusion("neural-cleanse", "mask", None, target, None, None, value, detected=detected, significance=0.05)


def row(*conclusions: Conclusion, verdict: str = "backdoor_detected", source: int = 4, target: int = 7) -> Row:
    return Row("attacked", "key", verdict, source, target, conclusions, 0.9, "none", 3.0, ("because",))


@pytest.mark.parametrize(
    ("model", "found", "right"),
    [
        (ATTACKED, row(), True),
        (ATTACKED, row(source=5), False),
        (ATTACKED, row(verdict="inconclusive"), False),
        (UNATTACKED, row(), False),
        (UNATTACKED, row(verdict="not_detected"), True),
    ],
)
def test_right_is_what_is_known(model: KnownModel, found: Row, right: bool) -> None:
    assert is_right(model, found) is right


def test_a_detector_found_it_if_its_own_p_names_what_is_planted() -> None:
    found = row(
        conclusion("pairwise", 1, 8, 0.001),
        conclusion("features", 4, 7, 0.04),
        conclusion("margin", None, 7, 0.03),
        conclusion("tabor", None, 7, None),
    )
    assert found_by(ATTACKED, found) == ["features", "margin"]
    assert found_by(UNATTACKED, found) == ["pairwise", "features", "margin"]
    text = table([(ATTACKED, found)], ScanConfig(), "the command")
    assert "| pairwise | features | margin | tabor | found by |" in text
    assert "| plain 0.001 (1 -> 8) | plain 0.04 (4 -> 7) | plain 0.03 ( -> 7) |" in text


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (index(7, 2.7, detected=True), ["neural-cleanse"]),
        (index(7, 1.7, detected=False), []),
        (index(8, 2.7, detected=True), []),
    ],
)
def test_a_detector_without_a_p_value_found_it_if_its_index_is_abnormal(found: Conclusion, expected: list[str]) -> None:
    assert found_by(ATTACKED, row(found)) == expected


def test_killed_run_continues_and_the_command_is_the_one_that_ran(tmp_path: Path, monkeypatch, capsys) -> None:
    scanned = []

    def scan_once(path: Path, images: object, config: ScanConfig) -> Row:  # noqa: ARG001 - as the scanner's
        scanned.append((path.stem, config.detectors))
        return row()

    monkeypatch.setattr(real_models, "scan", scan_once)
    monkeypatch.setattr(real_models.CleanSet, "load", lambda _: None)
    monkeypatch.setattr(Row, "of", lambda _, key, result: replace(result, key=key))
    (tmp_path / "attacked.onnx").write_bytes(b"model")
    command = ["--models", str(tmp_path), "--data", "data", "--out", str(tmp_path), "--only", "attacked"]
    for chosen in ([], [], ["--detector", "features"]):
        real_models.main([*command, *chosen], models=(ATTACKED, UNATTACKED))
    assert scanned == [("attacked", ScanConfig().detectors), ("attacked", ("features",))]
    assert "--detector features` at commit" in (tmp_path / "real_models.md").read_text()
    assert "attacked; backdoor_detected" in capsys.readouterr().out


def test_rows_survive_writing() -> None:
    kept = row(conclusion("pairwise", 4, 7, 0.01))
    document = {**asdict(kept), "conclusions": [asdict(each) for each in kept.conclusions]}
    assert Row.from_dict(document) == kept
