"""The victims of a preset with their scans, and what each way of judging makes of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from benchmarks.fine_pruning import Pruned, prune
from benchmarks.outcomes import Judge, Outcome, outcome
from benchmarks.provenance import share
from benchmarks.scans import KeptScan, defender_images, find_scan, obtain_scan
from benchmarks.victims import Victim, clean_images, find, make_plans, obtain


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
    """Images a class that scans use at most; None is as each setting says."""


@dataclass(frozen=True, slots=True)
class Examined:
    """One victim with its scans by setting."""

    victim: Victim
    """The classifier."""
    scans: Mapping[str, KeptScan]
    """Those that are there."""
    pruned: Pruned | None
    """What Fine-Pruning leaves of the attack; None without an attack."""

    @property
    def chooses(self) -> bool:
        """Whether it belongs to the half on which defaults are chosen; results are reported on the other."""
        return int(self.victim.plan.digest, 16) % 2 == 0

    def judged(self, judge: Judge) -> Outcome | None:
        """What a way of judging says; None without the scans it needs."""
        if not set(judge.settings) <= self.scans.keys():
            return None
        return _outcome(_Scans(tuple(self.scans[name] for name in judge.settings), self.victim.plan.digest), judge)


@dataclass(frozen=True, slots=True)
class _Scans:
    """Scans that are told apart by their victim alone, so that outcomes can be remembered with their judge."""

    scans: tuple[KeptScan, ...] = field(compare=False)
    victim: str


@cache
def _outcome(kept: _Scans, judge: Judge) -> Outcome:
    return outcome(kept.scans, judge)


@dataclass(frozen=True, slots=True)
class Study:
    """All victims of some groups."""

    groups: Mapping[str, Sequence[Examined]]
    """Victims by group."""

    def half(self, *, choosing: bool) -> "Study":
        """The victims that choose defaults, or those on which results are reported."""
        return Study({name: [e for e in group if e.chooses is choosing] for name, group in self.groups.items()})

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
            if examined.victim.pattern is None:
                yield not found.alarms(significance)
            elif of == "pair":
                yield found.names_pair(examined.victim, significance)
            else:
                yield found.names_target(examined.victim, significance)


def make(place: Place, groups: Iterable[str], settings: Iterable[str], seeds: Sequence[int]) -> Iterator[str]:
    """Train and scan what is missing; a line for each scan as it is there."""
    for setting in settings:
        for group in groups:
            for victim in obtain(make_plans(place.preset, group, seeds), cache=place.cache, cifar10=place.cifar10):
                images = defender_images(victim, cifar10=place.cifar10, most_images=place.most_images)
                kept = obtain_scan(victim, setting, cache=place.cache, images=images, most_images=place.most_images)
                yield f"{group} {victim.plan.seed}, {setting}: {kept.result.verdict.value}, {kept.seconds:.1f} s"


def collect(place: Place, groups: Iterable[str], settings: Sequence[str], seeds: Sequence[int]) -> Study:
    """What the cache has of some groups; nothing is trained or scanned."""
    return Study({group: list(_examined(place, group, settings, seeds)) for group in groups})


def _examined(place: Place, group: str, settings: Sequence[str], seeds: Sequence[int]) -> Iterator[Examined]:
    for plan in make_plans(place.preset, group, seeds):
        victim = find(plan, cache=place.cache)
        if victim is None:
            continue
        found = {name: find_scan(victim, name, cache=place.cache, most_images=place.most_images) for name in settings}
        pruned = None if victim.pattern is None else prune(victim, clean_images(plan, cifar10=place.cifar10))
        yield Examined(victim, {name: scan for name, scan in found.items() if scan is not None}, pruned)
