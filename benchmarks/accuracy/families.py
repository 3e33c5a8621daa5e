"""The networks of one preset as rows hold them, and how rows come from the cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.accuracy.counting import Population
from benchmarks.accuracy.rounds import settings_of
from benchmarks.accuracy.rows import VictimRow, read_rows, write_rows
from benchmarks.accuracy.study import Examined, Place, Study, collect, harvest
from benchmarks.victims.presets import POPULATIONS
from benchmarks.victims.seeds import FIRST_REPORTING, ONCE_REPORTING, reports


@dataclass(frozen=True, slots=True)
class Family:
    """The networks of one preset with their scans."""

    preset: str
    """Name in `POPULATIONS`."""
    study: Study
    """Networks by group."""
    population: Population
    """What counts of them."""

    @classmethod
    def read(cls, preset: str, folder: Path, *, reporting: bool, since: int = 0) -> Family:
        """The family of rows in a folder: the networks that choose, or those that report, with seeds since one.

        Networks of other seeds tell what accuracy one of a structure has, all the same.
        """
        rows = read_rows(preset, folder).rows
        own = [row for row in rows if row.seed >= since]
        study = collect(own, list(POPULATIONS[preset].groups)).part(reporting=reporting)
        victims = (row for row in rows if isinstance(row, VictimRow) and reports(row.seed) is reporting)
        return cls(preset, study, Population(tuple(victims)))

    def counting(self, group: str) -> list[Examined]:
        """The networks of a group that count."""
        return [each for each in self.study.groups[group] if self.population.objection(each.victim) is None]

    def all_counting(self) -> list[Examined]:
        """The networks of all groups that count."""
        return [each for group in self.study.groups for each in self.counting(group)]


def gather(preset: str, cache: Path, folder: Path, cifar10: Path | None) -> None:
    """Add rows of the networks and scans of a preset that the cache holds."""
    groups = POPULATIONS[preset].groups
    most = max(group.choosing for group in groups.values())
    seeds = [first + seed for first in (0, ONCE_REPORTING, FIRST_REPORTING) for seed in range(most)]
    rows = harvest(Place(preset, cache, cifar10), read_rows(preset, folder).rows, groups, settings_of(preset), seeds)
    if rows:
        write_rows(rows, preset, folder)
