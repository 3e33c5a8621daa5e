"""The populations as their rows in git say: what was trained, what counts, and what a way of judging makes of it.

    python -m benchmarks.accuracy.populations --out benchmarks/results

Nothing is trained, scanned or read from the cache: seconds on a bare clone. `--judge` names another way to conclude,
one of `outcomes.CANDIDATES`; the default is that of `scanner check`. `--since` keeps to networks with seeds from one
on, as those that were trained after a choice have. With `--harvest` what `rounds.py` left in the cache enters the rows
first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks import command
from benchmarks.accuracy.counting import plan_of
from benchmarks.accuracy.families import Family, gather
from benchmarks.accuracy.outcomes import CANDIDATES, Judge, default
from benchmarks.accuracy.rows import ROWS
from benchmarks.accuracy.study import Examined
from benchmarks.provenance import commit, share
from benchmarks.table import Table, page
from benchmarks.victims.presets import POPULATIONS
from benchmarks.victims.victims import CACHE

SIGNIFICANCE = 0.05
THRESHOLDS = (0.05, 0.1, 0.2, 0.5)


def trained(families: Iterable[Family]) -> Table:
    """What there is of each population."""
    rows = [_trained_cells(family, group) for family in families for group in family.study.groups]
    return Table(
        "Populations",
        "Networks that are there, of those that shall choose; those that count, and why others do not; accuracy and "
        "attack success of all that are there, least and largest; processor minutes of training and of the scan by all "
        "that `scanner check` searches.",
        ("kind", "structures", "there", "count", "do not count", "accuracy", "attack success", "training", "scans"),
        tuple(rows),
    )


def _trained_cells(family: Family, name: str) -> tuple[str, ...]:
    group = POPULATIONS[family.preset].groups[name]
    members = family.study.groups[name]
    victims = [each.victim for each in members]
    objections = [reason for row in victims if (reason := family.population.objection(row))]
    counted: dict[str, int] = {reason: objections.count(reason) for reason in dict.fromkeys(objections)}
    scans = [scan for each in members for scan in each.scans.values()]
    return (
        f"{family.preset}: {name}",
        ", ".join(dict.fromkeys(plan_of(row).network for row in victims)),
        f"{len(members)} of {group.choosing}",
        str(len(members) - len(objections)) if members else "",
        ", ".join(f"{number} {reason}" for reason, number in counted.items()),
        _range([row.accuracy for row in victims]),
        _range([row.success_rate for row in victims if row.success_rate is not None]),
        _minutes([row.seconds or 0.0 for row in victims]),
        _minutes([scan.seconds for scan in scans]),
    )


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3f}-{max(values):.3f}" if values else ""


def _minutes(seconds: Sequence[float]) -> str:
    return f"{sum(seconds) / 60:.1f}" if seconds else ""


def alarms(families: Sequence[Family], judge: Judge) -> Table:
    """Unattacked networks by structure: p-values at or below some thresholds."""
    found: dict[str, list[float]] = {}
    for family in families:
        for name, group in POPULATIONS[family.preset].groups.items():
            if group.attack is None:
                values = list(_p_values(family.counting(name), judge))
                for heading in (f"{family.preset}: {name}", f"all of {family.preset}"):
                    found.setdefault(heading, []).extend(values)
    rows = [
        (name, *(share(sum(p <= threshold for p in values), len(values)) for threshold in THRESHOLDS))
        for name, values in found.items()
        if values
    ]
    return Table(
        "Unattacked networks",
        "Networks that count and are scanned, with p of at most the threshold; at 0.05 these are false alarms. What to "
        "see: a level that is kept stays near its threshold.",
        ("kind", *(f"p <= {threshold:g}" for threshold in THRESHOLDS)),
        tuple(sorted(rows, key=lambda row: row[0].startswith("all of"))),
    )


def _p_values(members: Iterable[Examined], judge: Judge) -> Iterator[float]:
    for each in members:
        outcome = each.judged(judge)
        if outcome is not None:
            yield outcome.p_value


def power(families: Sequence[Family], judge: Judge) -> Table:
    """Attacked networks by kind: alarms that name a target, and all alarms."""
    rows = []
    for family in families:
        for name, group in POPULATIONS[family.preset].groups.items():
            if group.attack is None:
                continue
            judged = [(each, found) for each in family.counting(name) if (found := each.judged(judge)) is not None]
            named = sum(found.names_target(each.victim, SIGNIFICANCE) for each, found in judged)
            pairs = sum(found.names_pair(each.victim, SIGNIFICANCE) for each, found in judged)
            alarmed = sum(found.alarms(SIGNIFICANCE) for _, found in judged)
            cells = (share(count, len(judged)) for count in (named, pairs, alarmed))
            rows.append((f"{family.preset}: {name}", *cells))
    return Table(
        "Attacked networks",
        f"Victims that count and are scanned, with p of at most {SIGNIFICANCE:g}.",
        ("kind", "right target", "right pair", "any alarm"),
        tuple(row for row in rows if row[1]),
    )


def named_pairs(families: Sequence[Family], judge: Judge) -> Table:
    """The false alarms one by one."""
    rows = []
    for family in families:
        for name, group in POPULATIONS[family.preset].groups.items():
            for each in family.counting(name) if group.attack is None else ():
                found = each.judged(judge)
                if found is not None and found.alarms(SIGNIFICANCE):
                    pair = f"{found.source} -> {found.target}"
                    rows.append((f"{family.preset}: {name}", str(each.victim.seed), f"{found.p_value:.3f}", pair))
    return Table(
        "False alarms one by one",
        "Unattacked networks with an alarm, and the pair that is named.",
        ("kind", "seed", "p", "pair"),
        tuple(rows),
    )


def main() -> None:
    """Write the tables of what the rows hold."""
    parser = command.parser(__doc__, out="the tables")
    parser.add_argument("--rows", type=Path, default=ROWS, help="folder of the rows")
    parser.add_argument("--judge", choices=CANDIDATES, default=default(), help="way to conclude")
    parser.add_argument("--reporting", action="store_true", help="the networks that report, not those that choose")
    parser.add_argument("--since", type=int, default=0, help="the seed of the first network; that of all by default")
    parser.add_argument("--harvest", action="store_true", help="add what the cache holds to the rows first")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder that keeps networks and scans")
    parser.add_argument("--cifar10", type=Path, help="folder of CIFAR-10, to harvest networks for it")
    arguments = parser.parse_args()
    for preset in POPULATIONS if arguments.harvest else ():
        gather(preset, arguments.cache, arguments.rows, arguments.cifar10)
    read = partial(Family.read, folder=arguments.rows, reporting=arguments.reporting, since=arguments.since)
    families = [read(preset) for preset in POPULATIONS]
    judge = CANDIDATES[arguments.judge]
    made = [trained(families), *(table(families, judge) for table in (alarms, power, named_pairs))]
    name = "populations_reporting" if arguments.reporting else "populations"
    said = f"python -m benchmarks.accuracy.populations{' --reporting' if arguments.reporting else ''}"
    if arguments.since:
        name, said = f"{name}_since_{arguments.since}", f"{said} --since {arguments.since}"
    heading = (
        f"Made by `{said}` at commit {commit()}, judged by `{arguments.judge}`. Counts with 95 % intervals (Wilson)."
    )
    text = page("Populations", heading, *(each.markdown() for each in made))
    print(text)
    document = {"command": said, "commit": commit(), "tables": [asdict(each) for each in made]}
    command.publish(arguments.out, name, text, document)


if __name__ == "__main__":
    main()
