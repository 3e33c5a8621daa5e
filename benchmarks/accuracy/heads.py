"""What the last layer and noise say of the networks of the populations (detector `head`), by kind.

    python -m benchmarks.accuracy.heads --cache FOLDER [--reporting] --out benchmarks/results

The networks are read from the cache that `rounds.py` trains into: those that count, a second each. Nothing is searched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from backscan.converters import artifact_from_bytes, import_model, read_signature
from backscan.scanner.config import ScanConfig
from backscan.scanner.detectors import Examination, head
from backscan.scanner.results import Inference
from benchmarks import command
from benchmarks.accuracy.counting import plan_of
from benchmarks.accuracy.families import Family
from benchmarks.accuracy.rows import ROWS, VictimRow
from benchmarks.provenance import commit, share
from benchmarks.table import Table, page
from benchmarks.victims.presets import POPULATIONS
from benchmarks.victims.victims import CACHE, Victim, find

SIGNIFICANCE = 0.05
WAYS = ("last layer", "noise", "both")


def said_of(victim: Victim) -> tuple[Inference, ...]:
    """What the detector concludes by the last layer, by noise, and by both."""
    artifact = artifact_from_bytes(victim.model.name, victim.model.read_bytes())
    signature = read_signature(artifact)
    config = ScanConfig(threads=1)
    examination = Examination(
        classifier=import_model(artifact, signature),
        images_by_class={},
        decisions_by_class={},
        num_classes=signature.num_classes,
        config=config,
        stopped=lambda: False,
    )
    both = list(head.search(examination))
    weights = [replace(entry, score_on_noise=None) for entry in both]
    noise = [replace(entry, value=None) for entry in both]
    return tuple(head.infer(entries, config, signature.num_classes) for entries in (weights, noise, both))


def counted(families: list[Family], cache: Path) -> Iterator[tuple[str, VictimRow, tuple[Inference, ...]]]:
    """Every network that counts, has ten classes or more, and is in the cache: kind, row, conclusions."""
    for family in families:
        for name, group in POPULATIONS[family.preset].groups.items():
            for each in family.counting(name) if group.classes is None else ():
                victim = find(plan_of(each.victim), cache=cache)
                if victim is not None:
                    kind = f"{family.preset}: {name}" if group.attack else f"all unattacked of {family.preset}"
                    yield kind, each.victim, said_of(victim)


def main() -> None:
    """Write the table."""
    parser = command.parser(__doc__, out="the table")
    parser.add_argument("--rows", type=Path, default=ROWS, help="folder of the rows")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder that keeps the networks")
    parser.add_argument("--reporting", action="store_true", help="the networks that report, not those that choose")
    arguments = parser.parse_args()
    families = [Family.read(preset, arguments.rows, reporting=arguments.reporting) for preset in POPULATIONS]
    found: dict[str, list[tuple[VictimRow, tuple[Inference, ...]]]] = {}
    for kind, row, said in counted(families, arguments.cache):
        found.setdefault(kind, []).append((row, said))
    rows = []
    for kind, members in found.items():
        targets = [set(dict(row.targets).values()) for row, _ in members]
        cells = []
        for way in range(len(WAYS)):
            alarms = [(said[way].calibrated_p_value or 1.0) <= SIGNIFICANCE for _, said in members]
            right = sum(
                alarm and said[way].target in named
                for alarm, (_, said), named in zip(alarms, members, targets, strict=True)
            )
            cells.append(f"{right} ({sum(alarms)})" if any(targets) else share(sum(alarms), len(alarms)))
        rows.append((kind, str(len(members)), *cells))
    table = Table(
        "Last layer and noise",
        f"Networks with p of at most {SIGNIFICANCE:g}: of unattacked ones the share that alarms; of attacked ones "
        "those whose target is named and, in brackets, all that alarm.",
        ("kind", "networks", *WAYS),
        tuple(sorted(rows, key=lambda row: not row[0].startswith("all"))),
    )
    said = f"python -m benchmarks.accuracy.heads{' --reporting' if arguments.reporting else ''}"
    heading = f"Made by `{said}` at commit {commit()}. Counts with 95 % intervals (Wilson)."
    name = "heads_reporting" if arguments.reporting else "heads"
    text = page("The detector `head`", heading, table.markdown())
    print(text)
    command.publish(arguments.out, name, text, {"command": said, "commit": commit(), "tables": [asdict(table)]})


if __name__ == "__main__":
    main()
