"""Large networks under `--time-limit`, and what a scan of them was said to take beside what it took.

    python -m benchmarks.large --folder FOLDER --limit 60 --out benchmarks/results

The networks are made here, untrained, once for a folder (`subjects`). Every scan is the command itself, as a process of
its own: the time is that of the process, from its start to its end. `--limit 0` lets a scan take as long as it needs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.large.subjects import SUBJECTS, Made, make
from benchmarks.provenance import circumstances
from benchmarks.table import grid, page

_LIBRARIES = ("numpy", "onnxruntime", "torch")
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_PLANTED = {"mobilenet": 2, "resnet50": 500, "k10": 3, "k200": 7}


@dataclass(frozen=True, slots=True)
class Timed:
    """One scan."""

    name: str
    """Network."""
    planted: int | None
    """Target that was planted."""
    limit: float
    """Seconds that it might take; 0 is any."""
    seconds: float
    """Seconds that it took."""
    estimate: float | None
    """Seconds that it said it would take without a limit; None where it came to none."""
    verdict: str
    """What it said."""
    target: int | None
    """Target that it names."""
    p_value: float | None
    """Its calibrated p-value."""
    num_pairs: int
    """Pairs that were searched, by all detectors."""
    num_targets: int
    """Targets that were searched."""
    load: float
    """Load of the machine when it ended."""


def timed(name: str, made: Made, limit: float, options: list[str]) -> Timed:
    """Scan a network by the command."""
    words = [sys.executable, "-m", "backscan.scanner", "check", str(made.model), "--data", str(made.images)]
    words += ["--preprocess", SUBJECTS[name].preprocess, "--format", "json", *options]
    words += ["--time-limit", f"{limit:g}"] if limit else []
    started = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    found: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    return Timed(
        name=name,
        planted=made.target,
        limit=limit,
        seconds=round(seconds, 1),
        estimate=told_estimate(done.stderr, more=made.target is not None),
        verdict=found.get("verdict", f"exit code {done.returncode}"),
        target=found.get("target"),
        p_value=found.get("calibrated_p_value"),
        num_pairs=sum(pair["status"] != "no_images" for pair in found.get("pairs", ())),
        num_targets=len(found.get("targets", ())),
        load=round(os.getloadavg()[0], 1),
    )


def told_estimate(messages: str, *, more: bool = False) -> float | None:
    """Seconds of the whole scan, by what the command said; with what comes on top if a class stands out, if wanted."""
    told = re.search(r"the whole scan: about ([^,]+),[^;\n]*(?:; about (.+) more if)?", messages)
    if told is None:
        return None
    return sum(_seconds(part or "") for part in (told[1], told[2] if more else ""))


def _seconds(words: str) -> float:
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+) (s|min|h)\b", words))


def table(rows: list[Timed], heading: str) -> str:
    """The rows as Markdown."""
    header = ("network", "planted", "limit", "took", "said", "verdict", "target", "p", "pairs", "targets", "load")
    cells = (
        (
            row.name,
            "none" if row.planted is None else row.planted,
            f"{row.limit:g} s" if row.limit else "none",
            f"{row.seconds:.1f} s",
            "" if row.estimate is None else f"{row.estimate:.0f} s",
            row.verdict.replace("_", " "),
            "" if row.target is None else row.target,
            "" if row.p_value is None else f"{row.p_value:.3g}",
            row.num_pairs,
            row.num_targets,
            row.load,
        )
        for row in rows
    )
    return page("Large networks under a time limit", heading, grid(header, cells, "lrrrrlrrrrr"))


def main() -> None:
    """Make the networks, scan them, print the table and write it as Markdown and JSON."""
    parser = command.parser(__doc__, out="the table and its JSON")
    parser.add_argument("--folder", type=Path, required=True, help="where the networks are, or are put")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of a scan; 0 is any")
    parser.add_argument("--subject", choices=_PLANTED, action="append", help="only this one; repeatable")
    parser.add_argument("--planted", action="store_true", help="plant a target in each")
    parser.add_argument("--option", action="append", default=[], help="a further option of the scan; repeatable")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    made_by = f"python -m benchmarks.large --folder FOLDER --limit {arguments.limit:g} --seed {arguments.seed}"
    made_by += " --planted" if arguments.planted else ""
    made_by += "".join(f" --option={option}" for option in arguments.option)
    heading = f"`{made_by}`, {circumstances(_LIBRARIES)}. Seconds are those of the process, from its start to its end."
    rows: list[Timed] = []
    for name in arguments.subject or _PLANTED:
        target = _PLANTED[name] if arguments.planted else None
        made = make(name, arguments.folder, seed=arguments.seed, target=target)
        rows.append(timed(name, made, arguments.limit, arguments.option))
        print(table(rows[-1:], "").splitlines()[-1], flush=True)
        document = {
            "command": made_by,
            "circumstances": circumstances(_LIBRARIES),
            "rows": [asdict(row) for row in rows],
        }
        command.publish(arguments.out, "large", table(rows, heading), document)


if __name__ == "__main__":
    main()
