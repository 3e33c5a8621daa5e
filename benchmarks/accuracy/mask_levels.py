"""What a p-value of mask sizes is worth: `neural-cleanse` and `tabor` on the rows of the digits, without a new scan.

    python -m benchmarks.accuracy.mask_levels --out benchmarks/results

Each row holds the size of the mask of every target. The p-value is that of the test of targets on minus their logs.
A level holds where unattacked networks have p of at most .05, .1, .2 and .5 no more often than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from backscan.kernels.order import anomaly_indices
from backscan.scanner.inference.target_test import target_test
from benchmarks import command
from benchmarks.accuracy.rows import ROWS, ScanRow, VictimRow, read_rows
from benchmarks.provenance import commit, share
from benchmarks.table import Table, page

SETTINGS = ("NC-L1-1.0", "NC-L1-1.5", "NC-L1-1.5-0.5", "NC-L2-1.5", "TABOR")
LEVELS = (0.05, 0.1, 0.2, 0.5)
_INDEX = 2.0
_DRAWS = 9_999


def judged(row: ScanRow) -> tuple[float, float, int]:
    """P-value, largest anomaly index, and the target of the smallest mask of a row."""
    sizes = np.array([np.nan if size is None else size for size in row.sizes[0]], np.float64)
    test, reached = target_test(-np.log(sizes), num_draws=_DRAWS), sizes[np.isfinite(sizes)]
    if test.p_value is None:
        return 1.0, 0.0, -1
    return test.p_value, float(anomaly_indices(reached).max()), test.order[0]


def lines(rows: Sequence[ScanRow | VictimRow]) -> list[tuple[str, ...]]:
    """One line a setting: unattacked networks by level and index, attacked ones by p-value and index."""
    planted = {(row.group, row.seed): dict(row.targets) for row in rows if isinstance(row, VictimRow)}
    found = []
    for setting in SETTINGS:
        own = [row for row in rows if isinstance(row, ScanRow) and row.setting == setting]
        said = [(planted[row.group, row.seed], *judged(row)) for row in own]
        clean = [(p, index) for targets, p, index, _ in said if not targets]
        attacked = [(p, index, named in targets.values()) for targets, p, index, named in said if targets]
        found.append(
            (
                setting,
                str(len(clean)),
                *(f"{sum(p <= level for p, _ in clean) / max(1, len(clean)):.2f}" for level in LEVELS),
                share(sum(index > _INDEX for _, index in clean), len(clean)),
                str(len(attacked)),
                share(sum(p <= LEVELS[0] and right for p, _, right in attacked), len(attacked)),
                share(sum(index > _INDEX and right for _, index, right in attacked), len(attacked)),
            )
        )
    return found


def main() -> None:
    """Write the table."""
    parser = command.parser(__doc__, out="the table")
    parser.add_argument("--rows", type=Path, default=ROWS, help="folder of the rows")
    arguments = parser.parse_args()
    table = Table(
        "Masks",
        "Share of unattacked networks with p of at most each level, and with an index above 2; of attacked ones the "
        "share whose target has p of at most .05, and an index above 2.",
        ("setting", "unattacked", *(f"p <= {level:g}" for level in LEVELS), "index", "attacked", "p <= 0.05", "index"),
        tuple(lines(read_rows("digits", arguments.rows).rows)),
    )
    said = "python -m benchmarks.accuracy.mask_levels"
    heading = f"Made by `{said}` at commit {commit()}. Shares with 95 % intervals (Wilson)."
    text = page("A p-value of mask sizes", heading, table.markdown())
    print(text)
    command.publish(
        arguments.out, "mask_levels", text, {"command": said, "commit": commit(), "tables": [asdict(table)]}
    )


if __name__ == "__main__":
    main()
