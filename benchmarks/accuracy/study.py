"""The victims of a preset with their scans, and what each way of judging makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.accuracy.condense import MARGINS, measured_margins, scan_rows, victim_row
from benchmarks.accuracy.outcomes import FEW_CLASSES, Judge, Outcome, of_few_classes, outcome
from benchmarks.accuracy.rows import Row, ScanRow, VictimRow, merged
from benchmarks.accuracy.scans import defender_images, find_scan, obtain_scan, row_settings
from benchmarks.provenance import share
from benchmarks.victims.images import clean_images
from benchmarks.victims.plans import make_plans
from benchmarks.victims.presets import POPULATIONS
from benchmarks.victims.seeds import reports
from benchmarks.victims.victims import Victim, find, obtain


@dataclass(frozen=True, slots=True)
class Place:
    """Where victims and scans are kept, and how they are made."""

    preset: str
    """Name in `groups.PRESETS`."""
    cache: Path
    """Folder of victims and scans."""
    cifar10: Path | None = None
    """Folder of CIFAR-10."""
    most_images: int | None = None
    """Images per class that scans use at most; None is as each setting says."""


@dataclass(frozen=True, slots=True)
class Examined:
    """One victim with its scans by setting."""

    victim: VictimRow
    """The classifier."""
    scans: Mapping[str, ScanRow]
    """Those that are there."""

    def judged(self, judge: Judge) -> Outcome | None:
        """What a way of judging says; None without the scans it needs."""
        if FEW_CLASSES in self.scans:
            return of_few_classes(self.scans[FEW_CLASSES])
        if not set(judge.settings) <= self.scans.keys():
            return None
        return outcome([self.scans[name] for name in judge.settings], judge)


@dataclass(frozen=True, slots=True)
class Study:
    """All victims of some groups."""

    groups: Mapping[str, Sequence[Examined]]
    """Victims by group."""

    def part(self, *, reporting: bool) -> Study:
        """The victims that choose defaults, or those on which results are reported: by their seeds."""
        return Study(
            {name: [e for e in group if reports(e.victim.seed) is reporting] for name, group in self.groups.items()}
        )

    def share(self, group: str, judge: Judge, *, significance: float, of: str) -> str:
        """How many victims of a group are judged rightly, with an interval; empty without scans.

        Args:
            group: Name of the group; without an attack, right is no alarm.
            judge: How to conclude.
            significance: Threshold on the p-value.
            of: `pair` or `target`: what must be named beside the alarm.
        """
        rights = list(self._rights(group, judge, significance, of))
        return share(sum(rights), len(rights))

    def _rights(self, group: str, judge: Judge, significance: float, of: str) -> Iterator[bool]:
        for examined in self.groups.get(group, ()):
            found = examined.judged(judge)
            if found is None:
                continue
            if not examined.victim.targets:
                yield not found.alarms(significance)
            elif of == "pair":
                yield found.names_pair(examined.victim, significance)
            else:
                yield found.names_target(examined.victim, significance)


def make(
    place: Place, kept: Sequence[Row], groups: Iterable[str], settings: Iterable[str], seeds: Sequence[int]
) -> Iterator[str]:
    """Train and scan what has no row yet; a line for each scan as it is there."""
    known = {row.order for row in kept}
    for setting in settings:
        for group in groups:
            wanted = [seed for seed in seeds if any((group, seed, part) not in known for part in row_settings(setting))]
            for victim in obtain(make_plans(place.preset, group, wanted), cache=place.cache, cifar10=place.cifar10):
                images = defender_images(victim, cifar10=place.cifar10, most_images=place.most_images)
                kept = obtain_scan(victim, setting, cache=place.cache, images=images, most_images=place.most_images)
                yield f"{group} {victim.plan.seed}, {setting}: {kept.result.verdict.value}, {kept.seconds:.1f} s"


def harvest(
    place: Place, kept: Sequence[Row], groups: Iterable[str], settings: Sequence[str], seeds: Sequence[int]
) -> tuple[Row, ...]:
    """Kept rows and those of victims and scans in the cache that have none yet; nothing is trained or scanned."""
    known = {row.order for row in kept if place.preset not in POPULATIONS or not _lacks_margins(row)}
    return merged(kept, _new_rows(place, known, groups, settings, seeds))


def _lacks_margins(row: Row) -> bool:
    """Whether a row is of a scan that did not tell the margins that the others of its kind have."""
    return isinstance(row, ScanRow) and row.setting == MARGINS and not row.margins


def _new_rows(
    place: Place,
    known: set[tuple[str, int, str]],
    groups: Iterable[str],
    settings: Sequence[str],
    seeds: Sequence[int],
) -> Iterator[Row]:
    for plan in (plan for group in groups for plan in make_plans(place.preset, group, seeds)):
        victim = find(plan, cache=place.cache)
        if victim is None:
            continue
        if (plan.group, plan.seed, "") not in known:
            pruned = plan.preset not in POPULATIONS and bool(plan.targets)
            yield victim_row(victim, clean_images(plan, cifar10=place.cifar10) if pruned else None)
        for setting in settings:
            if any((plan.group, plan.seed, part) not in known for part in row_settings(setting)):
                yield from _scan_rows(place, victim, setting)


def _scan_rows(place: Place, victim: Victim, setting: str) -> Iterator[ScanRow]:
    found = find_scan(victim, setting, cache=place.cache, most_images=place.most_images)
    for row in () if found is None else scan_rows(victim, setting, found):
        if place.preset in POPULATIONS and _lacks_margins(row):
            images = defender_images(victim, cifar10=place.cifar10, most_images=place.most_images)
            yield replace(row, margins=measured_margins(victim.model, images))
        else:
            yield row


def collect(rows: Iterable[Row], groups: Sequence[str]) -> Study:
    """The study of some groups that rows are from."""
    found: dict[str, list[Examined]] = {group: [] for group in groups}
    scans: dict[str, dict[str, ScanRow]] = {}
    for row in rows:
        if isinstance(row, ScanRow):
            scans.setdefault(row.digest, {})[row.setting] = row
        elif row.group in found:
            found[row.group].append(Examined(row, scans.setdefault(row.digest, {})))
    return Study(found)
