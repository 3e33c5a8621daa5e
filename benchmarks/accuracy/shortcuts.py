"""What `scanner compare` says of trained networks: how often it names a shortcut that is none, and finds one that is.

    python -m benchmarks.accuracy.shortcuts --cache FOLDER --out benchmarks/results

Reads the scans that `benchmarks.accuracy.rounds` left in the cache; nothing is trained or scanned: minutes. Level:
every unattacked network against every other of its group, and against those of the same structure and images that were
trained otherwise. Power: every attacked network after an unattacked one of its structure and seed. The degrees of
freedom were chosen on the even seeds; the odd ones chose nothing.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from scipy.special import stdtr

from backscan.scanner.aftercare.easier import DEGREES, Terms, compare_pairs, detectors_of
from backscan.scanner.results import ScanResult
from benchmarks import command
from benchmarks.provenance import commit, rate
from benchmarks.table import Table, page
from benchmarks.victims.victims import CACHE

SIGNIFICANCE = 0.05
CHOICES = (4, 5, 6, 8, 12, 20)
_SCAN = re.compile(r"(?P<plan>[0-9a-f]{16})-[0-9a-f]{12}\.scan\.json")
_FEWEST_CLASSES = 5
_NORMAL = 1_000_000
"""Degrees of freedom that leave the least to pass."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """One network of the cache and its scan."""

    preset: str
    """Preset it belongs to."""
    group: str
    """Group of it."""
    network: str
    """Structure."""
    seed: int
    """Seed of training and images."""
    attacked: bool
    """Whether it has a target."""
    result: ScanResult
    """Its scan."""


@dataclass(frozen=True)
class Comparison:
    """Two networks, the first unattacked."""

    before: Scanned
    """First."""
    after: Scanned
    """Second."""

    @property
    def half(self) -> str:
        """Whether both seeds are even (`choosing`), both odd (`reporting`), or one of each."""
        halves = {self.before.seed % 2, self.after.seed % 2}
        return "mixed" if len(halves) == 2 else "reporting" if 1 in halves else "choosing"

    @cached_property
    def _candidates(self) -> list[tuple[float, int]]:
        """How far those pairs stand out that pass all else: t, and the tests that it is corrected for."""
        before, after = self.before.result, self.after.result
        detectors = detectors_of(before, after)
        terms = Terms(SIGNIFICANCE, max(1, len(detectors)), _NORMAL)
        spaces = [space for name in detectors if (space := compare_pairs(before, after, name, terms))]
        return [(pair.t, space.num_tests * terms.num_spaces) for space in spaces for pair in space.pairs if pair.is_new]

    def names_one(self, degrees: int = DEGREES) -> bool:
        """Whether a new shortcut is named."""
        return any(stdtr(degrees, -t) * tests <= SIGNIFICANCE for t, tests in self._candidates)


def read(cache: Path) -> Iterator[Scanned]:
    """The scans of five or more classes, one a network: of several the longest search."""
    found: dict[str, Path] = {}
    for path in sorted(cache.glob("*.scan.json"), key=lambda path: path.stat().st_size):
        if match := _SCAN.fullmatch(path.name):
            found[match["plan"]] = path
    for plan, path in sorted(found.items()):
        result = ScanResult.from_dict(json.loads(path.read_text())["report"])
        told = json.loads((cache / f"{plan}.json").read_text())["plan"]
        if result.pairs and (result.model.num_classes or 0) >= _FEWEST_CLASSES:
            yield Scanned(told["preset"], told["group"], told["network"], told["seed"], bool(told["targets"]), result)


def of_one_group(networks: Sequence[Scanned]) -> list[Comparison]:
    """Every unattacked network after every other of its group."""
    clean = [each for each in networks if not each.attacked]
    pairs = itertools.permutations(clean, 2)
    return [Comparison(a, b) for a, b in pairs if (a.preset, a.group) == (b.preset, b.group)]


def trained_otherwise(networks: Sequence[Scanned]) -> list[Comparison]:
    """Unattacked networks of one structure, with the same images, of different groups."""
    clean = [each for each in networks if not each.attacked]
    pairs = itertools.permutations(clean, 2)
    return [
        Comparison(a, b) for a, b in pairs if _origin(a) == _origin(b) and a.group != b.group and _same_images(a, b)
    ]


def attacked(networks: Sequence[Scanned]) -> list[Comparison]:
    """Every attacked network after an unattacked one of its structure and seed, trained in the ordinary way."""
    ordinary = {_origin(each): each for each in networks if not each.attacked and "hard" not in each.group}
    return [Comparison(ordinary[_origin(b)], b) for b in networks if b.attacked and _origin(b) in ordinary]


def _origin(network: Scanned) -> tuple[str, str, int]:
    return network.preset, network.network, network.seed


def _same_images(a: Scanned, b: Scanned) -> bool:
    return a.result.data is not None and b.result.data is not None and a.result.data.digest == b.result.data.digest


def counted(title: str, note: str, named: Iterable[tuple[str, Comparison, bool]]) -> Table:
    """A row for every kind, and one for all of them."""
    kinds: dict[str, list[bool]] = {}
    for kind, _, found in named:
        for heading in (kind, "all"):
            kinds.setdefault(heading, []).append(found)
    kinds = {name: kinds[name] for name in sorted(kinds, key=lambda name: (name == "all", name))}
    rows = tuple((name, str(len(found)), rate(sum(found), len(found))) for name, found in kinds.items())
    return Table(title, note, ("kind", "comparisons", "with a new shortcut"), rows)


def choosing(level: Sequence[Comparison], power: Sequence[Comparison]) -> Table:
    """Level and power on the half that chooses, by degrees of freedom."""
    parts = [[each for each in all_ if each.half == "choosing"] for all_ in (level, power)]
    rows = [
        (str(degrees), *(rate(sum(each.names_one(degrees) for each in part), len(part)) for part in parts if part))
        for degrees in CHOICES
    ]
    note = "Even seeds alone. Unattacked against unattacked of one group, and attacked after unattacked."
    return Table("Choice of the degrees of freedom", note, ("degrees", "unattacked", "attacked"), tuple(rows))


def tables(networks: Sequence[Scanned]) -> list[Table]:
    """All tables."""
    one, other, victims = of_one_group(networks), trained_otherwise(networks), attacked(networks)

    def judged(all_: Sequence[Comparison]) -> list[tuple[str, Comparison, bool]]:
        return [(f"{each.after.preset}: {each.after.group}", each, each.names_one()) for each in all_]

    level, otherwise, power = judged(one), judged(other), judged(victims)
    by_half = [(each.half, each, found) for _, each, found in level]
    ordered = "Both orders of two networks are counted, and a network enters several comparisons."
    return [
        choosing(one, victims),
        counted("Unattacked against unattacked of one group, by seeds", ordered, by_half),
        counted("Unattacked against unattacked of one group", ordered, level),
        counted("Unattacked, trained otherwise on the same images", ordered, otherwise),
        counted(
            "Attacked after unattacked, odd seeds",
            "None of them chose.",
            [x for x in power if x[1].half == "reporting"],
        ),
        counted("Attacked after unattacked", "All seeds.", power),
    ]


def main() -> None:
    """Compare what the cache holds, and write the tables."""
    parser = command.parser(__doc__, out="the tables")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder that keeps networks and scans")
    arguments = parser.parse_args()
    networks = list(read(arguments.cache))
    made = tables(networks)
    said = "python -m benchmarks.accuracy.shortcuts"
    heading = (
        f"Made by `{said}` at commit {commit()} from {len(networks)} scans. Significance {SIGNIFICANCE:g}, {DEGREES} "
        "degrees of freedom. Counts with 95 % intervals (Wilson), which take comparisons for independent."
    )
    text = page("Comparisons", heading, *(each.markdown() for each in made))
    print(text)
    document = {"command": said, "commit": commit(), "tables": [asdict(each) for each in made]}
    command.publish(arguments.out, "shortcuts", text, document)


if __name__ == "__main__":
    main()
