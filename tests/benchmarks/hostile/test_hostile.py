"""The table of hostile inputs and the fuzzer: they run, and they notice what they are for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.hostile.fuzz import base_models, look, mutate, run
from benchmarks.hostile.inputs import BEHAVIOUR, DATA, FILES, MODELS, HostileInput, generated
from benchmarks.hostile.run import check, check_all, table

ROWS = {row.name: row for row in (*MODELS, *BEHAVIOUR, *FILES, *DATA)}


def test_table_is_large_and_half_of_it_can_be_generated() -> None:
    assert len(ROWS) > 100
    assert len({row.name for row in generated(120, 1)}) == 120


@pytest.mark.parametrize(
    "name", ["model: functions-10^9", "external data is a hard link", "archive of objects", "no such model"]
)
def test_rows_end_as_they_should(name: str) -> None:
    outcome = check(ROWS[name], seed=0)
    assert outcome.fault == "", outcome
    assert outcome.message


def test_row_with_another_end_is_a_fault() -> None:
    wrong = HostileInput("wrong", frozenset({0}), ROWS["no such model"].prepare)
    outcome = check(wrong, seed=0)
    assert outcome.fault == "expected exit code 0"
    assert "**expected exit code 0**" in table([outcome])


def test_rows_come_in_their_order_whichever_ends_first() -> None:
    names = ["model: functions-10^9", "no such model", "model is a named pipe"]
    outcomes = list(check_all(names, 0, seed=0, jobs=2))
    assert [outcome.name for outcome in outcomes] == names
    assert [outcome.fault for outcome in outcomes] == [""] * 3


def test_generated_inputs_depend_on_their_seed_alone(tmp_path: Path) -> None:
    def made(name: str, seed: int) -> bytes:
        folder = tmp_path / name
        folder.mkdir()
        generated(1, seed)[0].prepare(folder, np.random.default_rng())
        return (folder / "model.onnx").read_bytes()

    assert made("first", 5) == made("second", 5) != made("third", 6)


def test_mutated_files_meet_no_surprise_at_the_intake() -> None:
    outcomes, failures = run(base_models(None), look, seed=1, count=1500, seconds=60, keep=None)
    assert failures == []
    assert min(outcomes[kind] for kind in ("accepted", "refused", "unreadable")) > 50


def test_failures_are_kept_and_repeatable(tmp_path: Path) -> None:
    def fail(data: bytes) -> str:
        raise RuntimeError(f"found {len(data)} bytes")

    bases = base_models(None)
    _, failures = run(bases, fail, seed=3, count=2, seconds=60, keep=tmp_path)
    assert len(failures) == 2
    rng = np.random.default_rng([3, 1])
    assert (tmp_path / "3-1.onnx").read_bytes() == mutate(bases[rng.integers(len(bases))], rng)
    assert "RuntimeError" in (tmp_path / "3-1.txt").read_text()
