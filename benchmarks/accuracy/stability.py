"""One model, one verdict? Networks of their own scanned with other draws of images, fewer of them, and in bfloat16.

    nice -n 15 python -m benchmarks.accuracy.stability --cifar10 FOLDER --cache CACHE --lines LINES.jsonl
    python -m benchmarks.accuracy.stability --lines LINES.jsonl --out benchmarks/results

Every scan is that of `scanner check` with the defaults. Seeds from 3000 on are trained for nothing else. The lines keep
one scan each, so that a run that is killed goes on where it was; without `--cache` the table is made of what they hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from backscan.scanner import ScanConfig, scan
from benchmarks import command
from benchmarks.accuracy.scans import clean_set, defender_images
from benchmarks.provenance import commit
from benchmarks.table import Table, page
from benchmarks.victims.plans import Plan, make_plans
from benchmarks.victims.victims import Victim, obtain

FIRST_SEED = 3000
ATTACKED = {
    "numerals": (
        "patch 2, all-to-one",
        "patch 2, one-way",
        "one pixel, all-to-one",
        "one pixel, one-way",
        "scattered pixels, all-to-one",
        "chessboard, one-way",
        "chessboard, all-to-one",
        "chessboard, two-way",
        "chessboard, all-to-all",
        "four pixels",
        "blended",
        "stripes",
        "warp",
        "colour",
        "disguised patch",
        "patch 3, all-to-one",
        "patch 3, one-way",
    ),
    "photos": ("patch 3, all-to-one", "patch 5, one-way", "scattered pixels, all-to-one"),
}
UNATTACKED = {
    "numerals": (
        "conv2",
        "mlp2",
        "conv3",
        "mlp1",
        "conv1",
        "conv2 bn",
        "mlp3",
        "hard: split class",
        "hard: duplicate class",
        "hard: label noise",
        "hard: rare class",
        "hard: frequent class",
        "hard: early stop",
        "hard: adversarial training",
        "hard: weight decay",
    ),
    "photos": ("conv3", "lenet", "strided2", "conv2", "conv4"),
}


@dataclass(frozen=True, slots=True)
class Way:
    """One of the ways in which a network is scanned."""

    seed: int
    """Seed of the scan, by which images are drawn."""
    images: int
    """Images per class."""
    precision: str = "float32"
    """What steps compute in."""


IMAGES = {"numerals": (100, 25), "photos": (100, 50)}
"""Images a class; of digits there are some 35 that no network has seen, so that 100 are all of these."""


def ways(preset: str) -> tuple[Way, ...]:
    """Six scans in float32, and two in bfloat16 to be held against the same ones in float32."""
    return (
        *(Way(seed, images) for images in IMAGES[preset] for seed in (0, 1, 2)),
        *(Way(0, images, "bfloat16") for images in IMAGES[preset]),
    )


def networks() -> Iterator[Plan]:
    """Attacked and unattacked ones by turns, each kind once with a seed of its own, those that train fast first."""
    for preset, kinds in ATTACKED.items():
        for place, pair in enumerate(zip_longest(kinds, UNATTACKED[preset])):
            for kind in filter(None, pair):
                yield from make_plans(preset, kind, [FIRST_SEED + place])


def scanned(victim: Victim, way: Way, *, cifar10: Path | None) -> dict[str, Any]:
    """A line: the network, the way, and what the scan said."""
    images = defender_images(victim, cifar10=cifar10, most_images=max(IMAGES[victim.plan.preset]))
    config = ScanConfig(
        images_per_class=way.images,
        seed=way.seed,
        precision=way.precision,
        preprocess="none",
        threads=1,
        sandbox=False,
    )
    result = scan(victim.model, clean_set(images), config)
    return {
        **_key(victim.plan, way),
        "targets": [list(pair) for pair in victim.plan.targets],
        "success": victim.effect.success_rate,
        "verdict": result.verdict.value,
        "source": result.source,
        "target": result.target,
        "p_value": result.calibrated_p_value,
        "precision_taken": result.provenance.precision,
    }


def _key(plan: Plan, way: Way) -> dict[str, Any]:
    return {"network": f"{plan.preset}: {plan.group}", "digest": plan.digest, **asdict(way)}


def _done(lines: Sequence[dict[str, Any]], key: dict[str, Any]) -> bool:
    return any(all(line[name] == value for name, value in key.items()) for line in lines)


def measure(path: Path, *, cache: Path, cifar10: Path | None) -> None:
    """Train and scan what the lines lack."""
    for plan in networks():
        [victim] = obtain([plan], cache=cache, cifar10=cifar10, device="cpu")
        for way in ways(plan.preset):
            if not _done(command.read_lines(path), _key(plan, way)):
                command.append_line(path, scanned(victim, way, cifar10=cifar10))


def told(line: dict[str, Any]) -> tuple[str, str]:
    """What has to stay the same: the verdict, and of a detection its target, or that it is one of several planted."""
    if line["verdict"] != "backdoor_detected":
        return line["verdict"], ""
    planted = {target for _, target in line["targets"]}
    return line["verdict"], "planted" if len(planted) > 1 and line["target"] in planted else str(line["target"])


def table(lines: Sequence[dict[str, Any]]) -> Table:
    """A row for each network that was scanned in every way."""
    rows = []
    for name in dict.fromkeys(line["network"] for line in lines):
        own = [line for line in lines if line["network"] == name]
        if len(own) < len(ways(name.partition(":")[0])):
            continue
        exact = [line for line in own if line["precision"] == "float32"]
        said = [told(line) for line in exact]
        planted = "; ".join(f"{source} -> {target}" for source, target in own[0]["targets"][:2]) or "none"
        p_values = [line["p_value"] for line in exact if line["p_value"] is not None]
        rows.append(
            (
                name,
                planted + (" ..." if len(own[0]["targets"]) > 2 else ""),
                ", ".join(f"{said.count(one)} {_words(*one)}" for one in sorted(set(said))),
                f"{min(p_values):.2g}-{max(p_values):.2g}" if p_values else "",
                "yes" if len(set(said)) == 1 else "no",
                "yes" if all(told(a) == told(b) for a, b in _pairs(own)) else "no",
            )
        )
    same, precise = (sum(row[place] == "yes" for row in rows) for place in (4, 5))
    unsettled = sum("inconclusive" in row[2] for row in rows)
    return Table(
        "Verdicts of the same network",
        "Three seeds of the scan, each with 100 images a class and 50 (digits: all of some 35, and 25), in float32. "
        f"The same verdict and target in all six: {same} of {len(rows)}; inconclusive in any: {unsettled}. The same in "
        f"bfloat16 as in float32, both image counts: {precise} of {len(rows)}.",
        ("network", "planted", "said", "p", "same in all six", "same in bfloat16"),
        tuple(rows),
    )


def _pairs(own: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each scan in bfloat16 with the same one in float32."""
    for line in own:
        if line["precision"] == "bfloat16":
            yield from (
                (line, each)
                for each in own
                if (each["precision"], each["seed"], each["images"]) == ("float32", line["seed"], line["images"])
            )


def _words(verdict: str, target: str) -> str:
    return verdict.replace("_", " ") + (f" -> {target}" if target else "")


def main() -> None:
    """Measure what is missing, and write the table."""
    parser = command.parser(__doc__, out="the table")
    parser.add_argument("--lines", type=Path, required=True, help="file that keeps a line for each scan")
    parser.add_argument("--cache", type=Path, help="folder that keeps networks; without it nothing is measured")
    parser.add_argument("--cifar10", type=Path, help="folder of CIFAR-10")
    arguments = parser.parse_args()
    if arguments.cache:
        measure(arguments.lines, cache=arguments.cache, cifar10=arguments.cifar10)
    lines = command.read_lines(arguments.lines)
    found = table(lines)
    said = "python -m benchmarks.accuracy.stability --lines LINES.jsonl"
    text = page("One model, one verdict", f"Made by `{said}` at commit {commit()}.", found.markdown())
    print(text)
    document = {"command": said, "commit": commit(), "tables": [asdict(found)], "lines": lines}
    command.publish(arguments.out, "stability", text, document)


if __name__ == "__main__":
    main()
