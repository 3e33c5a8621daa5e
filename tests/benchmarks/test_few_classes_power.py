"""The power that is claimed for few classes is what the populations in git say."""

import re
from pathlib import Path

from backscan.scanner.results import POWER_OF_TRANSFERABILITY

TABLES = (Path(__file__).parents[2] / "benchmarks" / "results" / "populations.md").read_text(encoding="utf-8")


def counts(row: str) -> list[tuple[int, int]]:
    """The first `x of n` of every table row that begins so: the right target, or an alarm, at .05."""
    lines = [line for line in TABLES.splitlines() if line.startswith(f"| {row}") and "(" in line]
    found = [re.findall(r"(\d+) of (\d+) \(", line)[0] for line in lines]
    return [(int(few), int(many)) for few, many in found]


def total(preset: str, kind: str) -> tuple[int, int]:
    found = [each for k in (3, 4) for each in counts(f"{preset}: {k} classes, {kind} ")]
    assert len(found) == 2
    return sum(few for few, _ in found), sum(many for _, many in found)


def test_the_power_that_is_claimed_is_that_of_the_rows() -> None:
    (digits, of_digits), (photos, of_photos) = (total(f"few-{name}", "chessboard") for name in ("numerals", "photos"))
    assert f"{digits} of {of_digits} planted chessboards were found on digits" in POWER_OF_TRANSFERABILITY
    assert f"{photos} of {of_photos} on photographs" in POWER_OF_TRANSFERABILITY
    patches = [total(f"few-{name}", "patch") for name in ("numerals", "photos")]
    assert sum(found for found, _ in patches) == 0
    assert f"none of {sum(number for _, number in patches)} patches" in POWER_OF_TRANSFERABILITY
    unattacked = [
        each for name in ("numerals", "photos") for k in (3, 4) for each in counts(f"few-{name}: {k} classes |")[:1]
    ]
    assert sum(alarms for alarms, _ in unattacked) == 0
    assert f"no alarm on {sum(number for _, number in unattacked)} " in POWER_OF_TRANSFERABILITY
