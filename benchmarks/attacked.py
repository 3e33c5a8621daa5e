"""Attacked networks of the cache and what kept scans recovered of them, for what is done after a detection."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from scipy.stats import binomtest

from backscan.scanner.results import FoundPattern, ScanResult, Verdict
from benchmarks.victims.plans import make_plans
from benchmarks.victims.presets import PRESETS
from benchmarks.victims.victims import Victim, find

ADDITIVE = frozenset({"chessboard", "pixel", "stripes"})
"""Attacks whose pattern is added to the image."""
LARGEST_FILE = 1 << 30
"""Bytes of a network that is read."""
_SEEDS = 300


def victims(preset: str, groups: Sequence[str], most: int, cache: Path, *, first_seed: int = 0) -> Iterator[Victim]:
    """The attacked networks of a preset that the cache has, at most so many of a group, from a seed on."""
    for group in groups or PRESETS[preset].groups:
        attacked = (victim for victim in kept(preset, group, cache, first_seed) if victim.pattern is not None)
        yield from (victim for victim, _ in zip(attacked, range(most), strict=False))


def kept(preset: str, group: str, cache: Path, first_seed: int) -> Iterator[Victim]:
    """The networks of a group that the cache has, attacked or not, from a seed on."""
    found = (find(plan, cache=cache) for plan in make_plans(preset, group, range(first_seed, first_seed + _SEEDS)))
    yield from (victim for victim in found if victim is not None)


def recovered(victim: Victim, cache: Path) -> FoundPattern | None:
    """The pattern on images that a kept scan shows, if it leads to a planted target; its own pair comes first."""
    report = report_of(victim, cache)
    return None if report is None else report.patterns[0]


def report_of(victim: Victim, cache: Path, *, detected: bool = False) -> ScanResult | None:
    """The kept scan that shows such a pattern, with it alone; None where none does.

    Args:
        victim: The attacked network.
        cache: Folder of kept scans.
        detected: Whether only scans count that detect a backdoor.
    """
    targets = dict(victim.plan.targets)
    shown = []
    for path in sorted(cache.glob(f"{victim.plan.digest}-*.scan.json")):
        result = ScanResult.from_dict(json.loads(path.read_text(encoding="utf-8"))["report"])
        if not detected or result.verdict is Verdict.BACKDOOR_DETECTED:
            on_images = (each for each in result.patterns if each.mask is not None or each.space == "image")
            shown += [replace(result, patterns=(each,)) for each in on_images]
    exact = [each for each in shown if targets.get(each.patterns[0].source) == each.patterns[0].target]
    return next(iter(exact or [each for each in shown if each.patterns[0].target in targets.values()]), None)


def share(hits: int, count: int, digits: int = 0) -> str:
    """A count with its 95 % interval (Clopper and Pearson), in per cent with so many digits."""
    if not count:
        return "none"
    interval = binomtest(hits, count).proportion_ci()
    return f"{hits} of {count} ({interval.low:.{digits}%} to {interval.high:.{digits}%})"
