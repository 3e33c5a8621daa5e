"""The table of journeys, `situations.csv`: what a user types, how it ends, what the first lines of the answer say."""

from __future__ import annotations

import csv
import shlex
from dataclasses import dataclass
from pathlib import Path

QUICK = "--preprocess none --detector pairwise --budget quick --threads 1"
"""What `{quick}` stands for: options of scans where the answer needs no full search."""
_TABLE = Path(__file__).with_name("situations.csv")


@dataclass(frozen=True, slots=True)
class Journey:
    """One thing that a user does."""

    about: str
    """What it belongs to."""
    situation: str
    """What for, in words."""
    typed: str
    """What is typed after `scanner`, in the folder of the materials."""
    code: int
    """Exit code that is right."""
    says: str
    """Regular expression of what stands in the first lines of the answer, in any case; empty for anything."""
    folder: str
    """Folder beneath the materials that it is typed in."""
    fast: bool
    """Whether it runs in CI. Such a one needs nothing that one before it leaves, unless that is fast too."""
    needs: str
    """A module beside those of the scanner without which there is nothing to do; empty for none."""

    @property
    def arguments(self) -> list[str]:
        """The words of it."""
        return shlex.split(self.typed)


def journeys() -> list[Journey]:
    """All of them, in the order in which they run: some use what one before them wrote."""
    with _TABLE.open(encoding="utf-8", newline="") as file:
        return [_journey(row) for row in csv.DictReader(file)]


def _journey(row: dict[str, str]) -> Journey:
    return Journey(
        about=row["about"],
        situation=row["situation"],
        typed=row["typed"].replace("{quick}", QUICK),
        code=int(row["code"]),
        says=row["says"],
        folder=row["folder"] or ".",
        fast=row["fast"] == "yes",
        needs=row["needs"],
    )
