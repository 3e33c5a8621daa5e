"""Detection and false-alarm rates of every variant on victims that anyone can train again: the tables of XMK section 5.

    python -m benchmarks.accuracy --preset digits --count 20 --out benchmarks/results
    python -m benchmarks.accuracy --preset full --count 25 --cifar10 FOLDER --out benchmarks/results

Victims and scans that neither the rows in git nor the cache have are made first, which takes hours and can be stopped
at any time. What is new enters the rows (`rows.py`), and the tables are made of the rows alone: with `--no-work` a bare
clone reproduces them. Cells without data stay empty.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks import command
from benchmarks.accuracy.figures import draw
from benchmarks.accuracy.rows import ROWS, read_rows, write_rows
from benchmarks.accuracy.scans import SETTINGS
from benchmarks.accuracy.study import Place, collect, harvest, make
from benchmarks.accuracy.tables import tables
from benchmarks.provenance import commit, machine
from benchmarks.table import page
from benchmarks.victims.presets import PRESETS
from benchmarks.victims.victims import CACHE


def main() -> None:
    """Make what is missing, then write the tables as Markdown and JSON and the figures as SVG."""
    arguments = _parse()
    place = Place(arguments.preset, arguments.cache, arguments.cifar10, arguments.images)
    groups = arguments.groups or list(PRESETS[arguments.preset].groups)
    seeds = range(arguments.count)
    kept = read_rows(arguments.preset, arguments.rows)
    if kept.outdated:
        print(f"{kept.outdated} rows of another format, plan or search are left out", file=sys.stderr)
    if not arguments.no_work:
        arguments.cache.mkdir(parents=True, exist_ok=True)
        for line in make(place, kept.rows, groups, arguments.settings or SETTINGS, seeds):
            print(line, file=sys.stderr, flush=True)
    rows = harvest(place, kept.rows, groups, list(SETTINGS), seeds)
    write_rows(rows, arguments.preset, arguments.rows)
    study = collect(rows, list(PRESETS[arguments.preset].groups))
    made = tables(study)
    name = f"accuracy_{arguments.preset}"
    heading = f"Made by `{_command(arguments)}` at commit {commit()} on {machine()}. "
    heading += "Counts with 95 % intervals (Wilson). Cells without data are empty."
    text = page(f"Detection accuracy, {arguments.preset}", heading, *(each.markdown() for each in made))
    print(text)
    document = {"command": _command(arguments), "commit": commit(), "machine": machine()}
    command.publish(arguments.out, name, text, document | {"tables": [asdict(each) for each in made]})
    if arguments.out:
        draw(study, arguments.out, name)


def _command(arguments: argparse.Namespace) -> str:
    images = f" --images {arguments.images}" if arguments.images else ""
    folder = " --cifar10 FOLDER" if arguments.cifar10 else ""
    return f"python -m benchmarks.accuracy --preset {arguments.preset} --count {arguments.count}{images}{folder}"


def _parse() -> argparse.Namespace:
    parser = command.parser(__doc__, out="the tables and figures")
    parser.add_argument("--preset", choices=PRESETS, default="digits", help="scale: data, network and training")
    parser.add_argument("--count", type=int, default=20, help="victims of each group")
    parser.add_argument("--groups", nargs="*", help="groups to work on, all by default")
    parser.add_argument("--settings", nargs="*", choices=SETTINGS, help="searches to make, all by default")
    parser.add_argument("--images", type=int, help="most images per class of any scan")
    parser.add_argument("--cifar10", type=Path, help="folder of CIFAR-10, for presets that need it")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder that keeps victims and scans")
    parser.add_argument("--rows", type=Path, default=ROWS, help="folder of the result rows that are kept in git")
    parser.add_argument("--no-work", action="store_true", help="train and scan nothing")
    return parser.parse_args()
