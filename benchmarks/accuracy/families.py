"""The networks of one preset as rows hold them, and how rows come from the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from backscan.scanner import ScanConfig, Verdict
from backscan.scanner.detectors.large_window import LARGE_WINDOW
from backscan.scanner.detectors.window import pilots_of
from benchmarks.accuracy.condense import window_rates
from benchmarks.accuracy.counting import Population
from benchmarks.accuracy.rounds import settings_of
from benchmarks.accuracy.rows import Row, ScanRow, VictimRow, merged, read_rows, write_rows
from benchmarks.accuracy.scans import SETTINGS, search_digest
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
    if preset in _SHAPES:
        rows = merged(rows, without_larger_windows(rows, _SHAPES[preset]))
    if rows:
        write_rows(rows, preset, folder)


_SHAPES = {"numerals": (8, 8)}
"""Height and width of images so small that windows of one size tell what larger ones would find."""


def without_larger_windows(rows: Sequence[Row], shape: tuple[int, int]) -> Iterator[ScanRow]:
    """Rows of larger windows that follow from those of windows, of networks that have none and may be lost.

    Where there is a single larger side and windows were searched at that one, larger windows are the same search. They
    find nothing if the pilots have too low a median, the first three of them as all five.

    Args:
        rows: Rows of a preset.
        shape: Height and width of its images.
    """
    known = {row.digest for row in rows if isinstance(row, ScanRow) and row.setting == LARGE_WINDOW.name}
    for row in rows:
        if not isinstance(row, ScanRow) or row.setting != "window" or row.digest in known:
            continue
        rates = window_rates(row)
        pilots = [rates[target] for target in pilots_of(len(rates), ScanConfig().seed)]
        highest = max(map(median, (pilots[: len(pilots) // 2 + 1], pilots)))
        if LARGE_WINDOW.sides(*shape) == [row.side] and highest < LARGE_WINDOW.medians.enough:
            yield ScanRow(
                row.group,
                row.seed,
                row.digest,
                setting=LARGE_WINDOW.name,
                search=search_digest(SETTINGS[LARGE_WINDOW.name]),
                images=row.images,
                seconds=0.0,
                verdict=Verdict.INCONCLUSIVE.value,
                confirmed=None,
                sizes=(tuple(None for _ in row.sizes[0]),),
            )
