"""Plant every kind of switch backdoor into files that torch's exporters wrote, and see what `scanner check` would find.

    python -m benchmarks.switches [--kinds where-mean ...] [--new checksum ...] [--hosts mixer ...]
                                  [--progress FILE] [--out benchmarks/results]

The kinds that the search was made with are planted into two exports each. A row passes if the switch works, and exactly
one finding is reported for it, demonstrated on the file in onnxruntime. The kinds that were tried afterwards are
planted into five each, of those that `--hosts` names; there a warning that names the node is enough, as is a refusal
that does. The same files without a switch have no finding.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.exporters.cases import Case
from benchmarks.switches.backdoors import SWITCHES
from benchmarks.switches.hosts import MORE_HOSTS, described
from benchmarks.switches.kinds import KINDS
from benchmarks.switches.outcome import Tried, try_kind
from benchmarks.switches.pages import whole_page
from benchmarks.switches.trial import Row, rows

HOSTS_EACH = 5
"""Exports that every kind of the second table is planted into."""


def tried(kinds: Sequence[str], hosts: Sequence[Case], progress: Path | None) -> Iterator[Tried]:
    """Every export alone, then every kind in five of them, others for each; what a progress file has is not redone."""
    known = {(entry["kind"], entry["host"]): entry for entry in command.read_lines(progress)}
    for kind, host in _planted(kinds, hosts):
        entry = known.get((kind, described(host)))
        one = try_kind(kind, host) if entry is None else _known(entry)
        if entry is None:
            command.append_line(progress, asdict(one))
        yield one


def _known(entry: Mapping[str, Any]) -> Tried:
    return Tried(**{**entry, "said": tuple(entry["said"])})


def _planted(kinds: Sequence[str], hosts: Sequence[Case]) -> Iterator[tuple[str, Case]]:
    yield from (("", host) for host in hosts)
    for index, kind in enumerate(kinds):
        able = [host for host in hosts if host.opset >= KINDS[kind].since]
        yield from ((kind, able[(index + step) % len(able)]) for step in range(min(HOSTS_EACH, len(able))))


def _asked(options: argparse.Namespace) -> str:
    """The options that choose what is tried, as they were given."""
    everything = {"kinds": list(SWITCHES), "new": list(KINDS), "hosts": [host.model for host in MORE_HOSTS]}
    given = {name: getattr(options, name) for name in everything}
    if options.gather:
        return " ".join(["--kinds", *given["kinds"], "--gather --progress FILE --out benchmarks/results"])
    parts = [" ".join([f"--{name}", *given[name]]) for name, known in everything.items() if given[name] != known]
    return " ".join([*parts, "--out benchmarks/results"])


def main() -> int:
    """Plant and look; exit 1 if a file is not right."""
    parser = command.parser(__doc__, out="switches.json and switches.md, or switches_new where --kinds names none")
    parser.add_argument("--kinds", nargs="*", default=list(SWITCHES), choices=list(SWITCHES), metavar="KIND")
    parser.add_argument("--new", nargs="*", default=list(KINDS), choices=list(KINDS), metavar="KIND")
    names = [host.model for host in MORE_HOSTS]
    parser.add_argument("--hosts", nargs="*", default=names, choices=names, metavar="MODEL", help="exports for --new")
    parser.add_argument("--progress", type=Path, help="file of finished files of --new, which are not tried again")
    parser.add_argument("--gather", action="store_true", help="tabulate what --progress has, and try nothing of --new")
    options = parser.parse_args()
    done, new = list[Row](), list[Tried]()
    hosts = [host for host in MORE_HOSTS if host.model in options.hosts]
    gathered = map(_known, command.read_lines(options.progress))
    for one in gathered if options.gather else tried(options.new, hosts, options.progress) if options.new else ():
        new.append(one)
        print(one, file=sys.stderr, flush=True)
    for row in rows(options.kinds) if options.kinds else ():
        done.append(row)
        print(row, file=sys.stderr, flush=True)
    name = "switches" if options.kinds else "switches_new"
    report = whole_page(done, new, f"python -m benchmarks.switches {_asked(options)}")
    print(report)
    command.publish(options.out, name, report, {"known": [*map(asdict, done)], "new": [*map(asdict, new)]})
    return int(not all(row.passed for row in done) or not all(one.is_right for one in new))
