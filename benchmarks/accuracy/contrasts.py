"""What clean margins say of the contrasts of targets, and what taking half of it off does: from rows, without a scan.

    python -m benchmarks.accuracy.contrasts --out benchmarks/results

The first table has unattacked networks: over all their targets, the slope and the correlation of the contrast of sizes
(`target_contrast`) with that of the margins. The second has what the default finds and calls attacked, beside the same
with contrasts of sizes alone. Networks with seeds from 2009 on were trained after that was chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backscan.scanner.inference.statistics import target_contrast
from benchmarks import command
from benchmarks.accuracy.condense import MARGINS
from benchmarks.accuracy.families import Family
from benchmarks.accuracy.outcomes import CANDIDATES, default, matrix
from benchmarks.accuracy.rows import ROWS
from benchmarks.accuracy.study import Examined
from benchmarks.provenance import commit, share
from benchmarks.table import grid, page

Vector = NDArray[np.float64]

PRESETS = ("photos", "numerals", "numbers")
SEARCHES = {"image": "pairwise", "features": "features J"}
WITHOUT_MARGINS = "together by contrasts of sizes alone"
THRESHOLDS = (0.01, 0.05)


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the networks of every preset."""

    name: str
    """What they do."""
    reporting: bool
    """Whether they report."""
    since: int = 0
    """The least of their seeds."""

    def of(self, preset: str, folder: Path) -> list[Examined]:
        """Those of a preset that count and were scanned with their margins."""
        every = Family.read(preset, folder, reporting=self.reporting, since=self.since).all_counting()
        wanted = set(CANDIDATES[default()].settings)
        return [each for each in every if wanted <= each.scans.keys() and each.scans[MARGINS].margins]


PARTS = (Part("choose", reporting=False), Part("report", reporting=True), Part("report, since 2009", True, 2009))


def contrast(weights: NDArray[np.float64]) -> Vector:
    """Log contrast of each target, about the mean of all, [K]."""
    logs: Vector = np.log(target_contrast(weights)[0])
    return logs - np.nanmean(logs)


def slopes(networks: Sequence[Examined]) -> Iterator[tuple[str, str, str, str]]:
    """A line for each search: how many unattacked networks, slope and correlation with the contrast of margins."""
    unattacked = [each for each in networks if not each.victim.targets]
    for place, setting in SEARCHES.items():
        of_sizes, of_margins = [], []
        for each in unattacked:
            sizes, margins = matrix(each.scans[setting].sizes), matrix(each.scans[MARGINS].margins)
            if np.isfinite(sizes).any():
                of_sizes.append(contrast(1.0 / sizes))
                of_margins.append(-contrast(np.where(margins > 0.0, margins, np.nan)))
        if of_sizes:
            x, y = np.concatenate(of_margins), np.concatenate(of_sizes)
            known = np.isfinite(x + y)
            slope, correlation = np.polyfit(x[known], y[known], 1)[0], np.corrcoef(x[known], y[known])[0, 1]
            yield place, str(len(of_sizes)), f"{slope:.2f}", f"{correlation:.2f}"


def counts(networks: Sequence[Examined], candidate: str) -> Iterator[str]:
    """Alarms on unattacked networks, then attacked ones of which a target is named, at each threshold."""
    said = [(each.victim, found) for each in networks if (found := each.judged(CANDIDATES[candidate])) is not None]
    for threshold in THRESHOLDS:
        alarms = [found.alarms(threshold) for victim, found in said if not victim.targets]
        yield share(sum(alarms), len(alarms))
    for threshold in THRESHOLDS:
        named = [found.names_target(victim, threshold) for victim, found in said if victim.targets]
        yield share(sum(named), len(named))


def lines(folder: Path) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """The lines of both tables."""
    explained, found = list[tuple[str, ...]](), list[tuple[str, ...]]()
    for preset in PRESETS:
        for part in PARTS:
            if networks := part.of(preset, folder):
                explained += [(preset, part.name, *line) for line in slopes(networks)]
                ways = {"by sizes alone": WITHOUT_MARGINS, "beside margins": default()}
                found += [(preset, part.name, name, *counts(networks, each)) for name, each in ways.items()]
    return explained, found


def text(explained: Sequence[tuple[str, ...]], found: Sequence[tuple[str, ...]]) -> str:
    """The page."""
    of_slopes = ("preset", "networks that", "searched on", "unattacked", "slope", "correlation")
    of_counts = ("preset", "networks that", "contrasts", *(f"alarms at {each:g}" for each in THRESHOLDS))
    return page(
        "Contrasts of targets beside clean margins",
        f"`python -m benchmarks.accuracy.contrasts --out benchmarks/results`, at commit {commit()}. The contrast of "
        "sizes by that of clean margins, over all targets of unattacked networks:",
        grid(of_slopes, explained),
        "What the default calls attacked and finds (a planted target named), with 95 % intervals (Wilson):",
        grid((*of_counts, *(f"found at {each:g}" for each in THRESHOLDS)), found),
    )


def main() -> None:
    """Read the rows, print the page and write it."""
    arguments = command.parser(__doc__, out="`contrasts.md` and `contrasts.json`").parse_args()
    explained, found = lines(ROWS)
    told = text(explained, found)
    print(told, end="")
    command.publish(arguments.out, "contrasts", told, {"slopes": explained, "counts": found})


if __name__ == "__main__":
    main()
