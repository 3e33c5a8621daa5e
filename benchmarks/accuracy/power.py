"""Whether what a report says of its power is true: pairs planted at the size that it tells, and the verdict counted.

    python -m benchmarks.accuracy.power [--reporting] --out benchmarks/results

Unattacked networks of the rows in git. Their image sizes tell at which size four of five planted pairs are found;
some pairs are drawn by the seed, one after the other gets a pattern of that size on the image, of four fifths and
of three fifths of it, and all witnesses conclude again. What the pattern would be inside the model, or as a window,
stays as it was, so that the count can only be too low.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from benchmarks import command
from benchmarks.accuracy.families import Family
from benchmarks.accuracy.outcomes import CANDIDATES, concluded, default, outcome
from benchmarks.accuracy.rows import ROWS, ScanRow
from benchmarks.provenance import commit, share
from benchmarks.table import Table, page
from benchmarks.victims.presets import POPULATIONS

SIGNIFICANCE = 0.05
SHARES = (1.0, 0.8, 0.6)
DRAWS = 999
PAIRS = 3


def planted(row: ScanRow, source: int, target: int, size: float) -> ScanRow:
    """A row of image sizes where one pair has another size."""
    sizes, common = ([list(line) for line in matrix] for matrix in (row.sizes, row.common))
    for matrix in (sizes, common):
        if matrix and matrix[source][target] is not None:
            matrix[source][target] = size
    statuses = {pair: status for pair, status in row.statuses.items() if pair != f"{source}:{target}"}
    return replace(row, sizes=tuple(map(tuple, sizes)), common=tuple(map(tuple, common)), statuses=statuses)


def counted(family: Family, networks: int) -> Iterator[tuple[float, bool]]:
    """Share of the size that was told, and whether the pair's target was named, of every planted pair."""
    judge = CANDIDATES[default()]
    rng = np.random.default_rng(0)
    groups = [name for name, group in POPULATIONS[family.preset].groups.items() if not group.attack]
    members = [each for name in groups for each in family.counting(name) if set(judge.settings) <= each.scans.keys()]
    for each in members[:networks]:
        rows = [each.scans[setting] for setting in judge.settings]
        told = next(
            entry.detectable_size
            for entry in concluded(rows, judge, draws=DRAWS)
            if entry.space == "image" and entry.part_of
        )
        if told is None:
            continue
        for _ in range(PAIRS):
            source, target = (int(label) for label in rng.choice(len(rows[0].sizes), 2, replace=False))
            before = rows[0].sizes[source][target]
            if before is None or before <= told:
                continue
            for factor in SHARES:
                with_pair = [planted(rows[0], source, target, factor * told), *rows[1:]]
                found = outcome(with_pair, judge, draws=DRAWS)
                yield factor, found.alarms(SIGNIFICANCE) and found.target == target


def main() -> None:
    """Write the table."""
    parser = command.parser(__doc__, out="the table")
    parser.add_argument("--rows", type=Path, default=ROWS, help="folder of the rows")
    parser.add_argument("--reporting", action="store_true", help="the networks that report, not those that choose")
    parser.add_argument("--networks", type=int, default=20, help="networks of a preset")
    arguments = parser.parse_args()
    rows = []
    for preset in ("numerals", "photos"):
        found = list(counted(Family.read(preset, arguments.rows, reporting=arguments.reporting), arguments.networks))
        cells = ([named for factor, named in found if factor == each] for each in SHARES)
        rows.append((preset, *(share(sum(named), len(named)) for named in cells)))
    table = Table(
        "Pairs found at the size that the report tells",
        "Planted pairs whose target is named. What to see: four of five at the size itself, more below.",
        ("networks", *(f"{each:g} of the size" for each in SHARES)),
        tuple(rows),
    )
    said = f"python -m benchmarks.accuracy.power{' --reporting' if arguments.reporting else ''}"
    heading = f"Made by `{said}` at commit {commit()}. Counts with 95 % intervals (Wilson)."
    text = page("Power as it is told", heading, table.markdown())
    print(text)
    name = "power_reporting" if arguments.reporting else "power"
    command.publish(arguments.out, name, text, {"command": said, "commit": commit(), "tables": [asdict(table)]})


if __name__ == "__main__":
    main()
