"""How far the way of a pair and the way back differ without an attack, and what that finds: from rows, without a scan.

    python -m benchmarks.accuracy.one_way --out benchmarks/results

The first table has unattacked networks of ten and more classes: the standard deviation over their pairs of
w = log(d_ts / d_st) - log(I_ts / I_st) / 2, and the largest. The second has networks of two to four classes, and how
many each of the two tests names, and both together, at .05.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backscan.scanner.inference.transfer import shorter_way
from backscan.scanner.results import ONE_WAY, TRANSFERABILITY
from benchmarks import command
from benchmarks.accuracy.families import Family
from benchmarks.accuracy.outcomes import FEW_CLASSES, concluded_of_few, matrix, of_few_classes
from benchmarks.accuracy.rows import ROWS, ScanRow
from benchmarks.accuracy.study import Examined
from benchmarks.provenance import commit, share
from benchmarks.table import grid, page

MANY, FEW = ("numerals", "photos", "numbers"), ("few-numerals", "few-photos")
SIGNIFICANCE = 0.05
_SEARCH = "pairwise"


def ways(row: ScanRow) -> NDArray[np.float64]:
    """The w of one of the two directions of every pair of classes that has both, [P]."""
    sizes, own = matrix(row.sizes), matrix(row.individual)
    w = shorter_way(sizes, sizes.T, own, own.T)
    upper = w[np.triu_indices(len(w), 1)]
    return upper[np.isfinite(upper)]


def spreads(folder: Path, *, reporting: bool) -> Iterator[tuple[str, ...]]:
    """A line for each preset: how many networks, the range of their deviations, and their largest w."""
    for preset in MANY:
        family = Family.read(preset, folder, reporting=reporting)
        every = [each for each in family.all_counting() if not each.victim.targets]
        found = [
            ways(each.scans[_SEARCH]) for each in every if _SEARCH in each.scans and each.scans[_SEARCH].individual
        ]
        found = [each for each in found if each.size]
        if found:
            deviations, largest = [np.std(each) for each in found], [np.abs(each).max() for each in found]
            yield (
                preset,
                "report" if reporting else "choose",
                str(len(found)),
                f"{min(deviations):.2f}, {np.median(deviations):.2f}, {max(deviations):.2f}",
                f"{np.median(largest):.2f}, {max(largest):.2f}",
            )


def outcomes(folder: Path, *, reporting: bool) -> Iterator[tuple[str, ...]]:
    """A line for each group of few classes: unattacked ones that alarm, attacked ones of which the pair is named."""
    for preset in FEW:
        family = Family.read(preset, folder, reporting=reporting)
        for group in family.study.groups:
            own = [each for each in family.counting(group) if FEW_CLASSES in each.scans]
            if own:
                attacked = bool(own[0].victim.targets)
                counts = np.array([_named(each) for each in own]).sum(axis=0).tolist()
                kind = "found" if attacked else "alarms"
                yield preset, "report" if reporting else "choose", group, kind, *(share(n, len(own)) for n in counts)


def _named(network: Examined) -> tuple[bool, bool, bool]:
    """Whether each test alone, and both together, name a planted pair; any pair of an unattacked network."""
    row, planted = network.scans[FEW_CLASSES], network.victim.targets
    by_name = {each.statistic: each for each in concluded_of_few(row)}
    both = of_few_classes(row)
    said = [
        ((each.source, each.target), 1.0 if each.p_value is None else each.p_value)
        for each in (by_name[TRANSFERABILITY], by_name[ONE_WAY])
    ]
    said.append(((both.source, both.target), both.p_value))
    first, second, third = (p <= SIGNIFICANCE and (not planted or pair in planted) for pair, p in said)
    return first, second, third


def text(spread: Sequence[tuple[str, ...]], found: Sequence[tuple[str, ...]]) -> str:
    """The page."""
    headings = ("preset", "networks that", "unattacked", "deviation: least, median, largest", "largest: median, most")
    of_few = ("preset", "networks that", "group", "", "transferability", "one way", "both")
    return page(
        "Ways there and ways back",
        f"`python -m benchmarks.accuracy.one_way --out benchmarks/results`, at commit {commit()}. w is how much "
        "shorter the pattern of a pair is than the one back, beyond half of what single images explain (logarithms).",
        grid(headings, spread),
        "At .05, the planted pair named:",
        grid(of_few, found),
    )


def main() -> None:
    """Read the rows, print the page and write it."""
    arguments = command.parser(__doc__, out="`one_way.md` and `one_way.json`").parse_args()
    halves = (False, True)
    spread = [line for reporting in halves for line in spreads(ROWS, reporting=reporting)]
    found = [line for reporting in halves for line in outcomes(ROWS, reporting=reporting)]
    told = text(spread, found)
    print(told, end="")
    command.publish(arguments.out, "one_way", told, {"spreads": spread, "outcomes": found})


if __name__ == "__main__":
    main()
