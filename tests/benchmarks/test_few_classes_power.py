"""The power that is claimed for few classes is what the populations in git say."""

import re
from pathlib import Path

from backscan.scanner.results import POWER_OF_TRANSFERABILITY

TABLES = (Path(__file__).parents[2] / "benchmarks" / "results" / "populations.md").read_text(encoding="utf-8")


def counts(row: str) -> list[tuple[int, int]]:
    """The last `x of n` of every table row that begins so: what the default says."""
    lines = [line for line in TABLES.splitlines() if line.startswith(f"| {row}") and "(" in line]
    found = [re.findall(r"(\d+) of (\d+) \(", line)[-1] for line in lines]
    return [(int(few), int(many)) for few, many in found]


def total(kind: str) -> tuple[int, int]:
    found = [each for k in (2, 3, 4) for each in counts(f"few-numerals: {k} classes, {kind} ")]
    assert len(found) == 3
    return sum(few for few, _ in found), sum(many for _, many in found)


def test_the_power_that_is_claimed_is_that_of_the_rows() -> None:
    chessboards, patches = total("chessboard"), total("patch")
    assert f"{chessboards[0]} of {chessboards[1]} planted chessboards" in POWER_OF_TRANSFERABILITY
    assert patches[0] == 0
    assert f"none of {patches[1]} patches" in POWER_OF_TRANSFERABILITY
    ((alarms, unattacked),) = counts("all of few-numerals ")[:1]
    assert alarms == 0
    assert f"no alarm on {unattacked} " in POWER_OF_TRANSFERABILITY
