"""What each witness of the default finds alone, kind by kind, beside what they find together and what was found before.

    python -m benchmarks.accuracy.witnesses --out benchmarks/results

Everything is computed from the rows in git, a second a network: nothing is trained or scanned. Networks of two to four
classes have one witness of their own and are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from types import MappingProxyType

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from backscan.scanner.inference.agreement import values_of_targets
from benchmarks import command
from benchmarks.accuracy.families import Family
from benchmarks.accuracy.figures import curve
from benchmarks.accuracy.outcomes import CANDIDATES, Outcome, concluded, default
from benchmarks.accuracy.rows import ROWS, VictimRow
from benchmarks.accuracy.study import Examined
from benchmarks.provenance import commit, share
from benchmarks.table import Table, page
from benchmarks.victims.presets import POPULATIONS

Vector = NDArray[np.float64]

SIGNIFICANCE = 0.05
FALSE_ALARMS = (0.01, 0.05, 0.1, 0.2)
"""Shares of unattacked networks that alarm at which detections are counted."""
TOGETHER, BEFORE = "together", "sizes alone, as before"
WITNESSES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "sizes": ("pairwise", "source-adjusted"),
        "contrasts": ("pairwise", "margin-contrast"),
        "commonality of pairs": ("pairwise", "commonality"),
        "commonality of targets": ("pairwise", "commonality-target"),
        "sizes on features": ("features", "source-adjusted"),
        "contrasts on features": ("features", "margin-contrast"),
        "windows": ("window", "target-rate"),
        "larger windows": ("large-window", "target-rate"),
        "masks": ("mask", "target-mask"),
    }
)
"""Detector and statistic of every witness."""
_EVERY = CANDIDATES["together and commonality"]
_BEFORE = CANDIDATES["both, inverse-gaussian: source-adjusted + target-contrast"]
_NOTHING = Outcome(1.0, None, None)
_PRESETS = ("photos", "numerals", "numbers")


@dataclass(frozen=True, slots=True)
class Heard:
    """What was said about one network that counts."""

    kind: str
    """Preset and group."""
    victim: VictimRow
    """The network."""
    said: Mapping[str, Outcome]
    """By witness, `TOGETHER` and `BEFORE`; what says nothing has a p-value of 1."""
    scores: Mapping[str, Vector]
    """How far each target stands out by a witness of targets, in standard deviations of all, [K]."""

    def finds(self, witness: str) -> bool:
        """Whether a witness alarms at the significance and names a planted target."""
        return self.said[witness].names_target(self.victim, SIGNIFICANCE)

    def p_of(self, witness: str) -> float:
        """P-value of a witness; of an attacked network above 1 where it names another target."""
        found = self.said[witness]
        return found.p_value if not self.victim.targets or found.names_target(self.victim, 1.0) else 2.0


def heard(families: Sequence[Family]) -> Iterator[Heard]:
    """What every witness says about every network that counts and was scanned."""
    for family in families:
        for group in POPULATIONS[family.preset].groups:
            for each in family.counting(group):
                if set(_EVERY.settings) <= each.scans.keys():
                    yield _heard(f"{family.preset}: {group}", each)


def _heard(kind: str, each: Examined) -> Heard:
    conclusions = concluded([each.scans[name] for name in _EVERY.settings], _EVERY)
    alone = {(entry.detector, entry.statistic): entry for entry in conclusions if entry.calibrated_p_value is not None}
    said, scores = dict[str, Outcome](), dict[str, Vector]()
    for name, key in WITNESSES.items():
        entry = alone.get(key)
        said[name] = _NOTHING
        if entry is not None and entry.calibrated_p_value is not None:
            said[name] = Outcome(entry.calibrated_p_value, entry.source, entry.target)
            if len(entry.values) == 1:
                values = values_of_targets(entry)
                scores[name] = (values - np.nanmean(values)) / (np.nanstd(values) or 1.0)
    said[TOGETHER] = each.judged(CANDIDATES[default()]) or _NOTHING
    said[BEFORE] = each.judged(_BEFORE) or _NOTHING
    return Heard(kind, each.victim, said, scores)


def level(networks: Sequence[Heard]) -> Table:
    """Alarms on unattacked networks, by structure."""
    unattacked = [each for each in networks if not each.victim.targets]
    rows = []
    for kind, own in _by_kind(unattacked):
        alarms = (sum(each.said[name].alarms(SIGNIFICANCE) for each in own) for name in _columns())
        rows.append((kind, *(share(number, len(own)) for number in alarms)))
    note = f"Alarms at {SIGNIFICANCE:g}, each witness alone."
    return Table("Unattacked networks", note, ("kind", *_columns()), tuple(rows))


def power(networks: Sequence[Heard]) -> Table:
    """Attacked networks that are found with a planted target, by kind of attack."""
    attacked = [each for each in networks if each.victim.targets]
    rows = [
        (kind, *(share(sum(each.finds(name) for each in own), len(own)) for name in _columns()))
        for kind, own in _by_kind(attacked)
    ]
    note = f"Found at {SIGNIFICANCE:g} with a planted target, each witness alone."
    return Table("Attacked networks", note, ("kind", *_columns()), tuple(rows))


def operating(networks: Sequence[Heard]) -> Table:
    """Points of the operating curves: what is found where so many unattacked networks alarm."""
    rows = []
    for preset in _PRESETS:
        for name in _columns():
            attacked, unattacked = p_values(networks, preset, name)
            if attacked and unattacked:
                alarms, found = map(np.array, curve(attacked, unattacked))
                cells = (f"{found[alarms <= most].max():.2f}" for most in FALSE_ALARMS)
                rows.append((preset, name, *cells))
    note = "Share of attacked networks found with a planted target where at most so many unattacked ones alarm."
    header = ("networks", "witness", *(f"{most:.0%} alarm" for most in FALSE_ALARMS))
    return Table("Operating curves", note, header, tuple(rows))


def correlations(networks: Sequence[Heard]) -> Table:
    """How witnesses of targets agree about targets that nobody attacked."""
    unattacked = [each for each in networks if not each.victim.targets]
    rows = []
    for preset in _PRESETS:
        own = [each.scores for each in unattacked if each.kind.startswith(f"{preset}:")]
        for one, other in combinations(dict.fromkeys(name for scores in own for name in scores), 2):
            both = [(scores[one], scores[other]) for scores in own if one in scores and other in scores]
            if not both:
                continue
            first, second = (np.concatenate(each) for each in zip(*both, strict=True))
            known = ~np.isnan(first + second)
            rows.append((preset, one, other, str(len(both)), f"{np.corrcoef(first[known], second[known])[0, 1]:.2f}"))
    note = "Correlation of what two witnesses say of a target, over all targets of all unattacked networks."
    return Table("Agreement without an attack", note, ("networks", "witness", "other", "number", "r"), tuple(rows))


def p_values(networks: Sequence[Heard], preset: str, witness: str) -> tuple[list[float], list[float]]:
    """P-values of a witness on attacked and on unattacked networks of a preset."""
    own = [each for each in networks if each.kind.startswith(f"{preset}:")]
    return (
        [each.p_of(witness) for each in own if each.victim.targets],
        [each.p_of(witness) for each in own if not each.victim.targets],
    )


def draw(networks: Sequence[Heard], path: Path) -> None:
    """Write the operating curves of the default, of that before, and of the best witnesses, as SVG."""
    shown = (TOGETHER, BEFORE, "windows", "masks", "contrasts on features")
    with plt.rc_context({"svg.hashsalt": path.stem, "font.size": 9}):
        figure, axes = plt.subplots(1, 2, figsize=(8.0, 3.4), layout="constrained")
        for panel, preset in zip(axes, ("numerals", "photos"), strict=True):
            for name in shown:
                attacked, unattacked = p_values(networks, preset, name)
                if attacked and unattacked:
                    panel.step(*curve(attacked, unattacked), where="post", label=name)
            panel.set(xlabel=f"false alarms, {preset}", ylabel="found with a planted target", ylim=(0, 1.02))
        axes[0].legend(loc="lower right", frameon=False, fontsize=7)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _by_kind(networks: Sequence[Heard]) -> Iterator[tuple[str, list[Heard]]]:
    """Networks by kind, then all of every preset."""
    kinds = dict.fromkeys(each.kind for each in networks)
    yield from ((kind, [each for each in networks if each.kind == kind]) for kind in kinds)
    for preset in dict.fromkeys(kind.split(":")[0] for kind in kinds):
        yield f"all of {preset}", [each for each in networks if each.kind.startswith(f"{preset}:")]


def _columns() -> tuple[str, ...]:
    return (*WITNESSES, TOGETHER, BEFORE)


def _parse() -> argparse.Namespace:
    parser = command.parser(__doc__, out="the tables and the curves")
    parser.add_argument("--rows", type=Path, default=ROWS, help="folder of the rows")
    parser.add_argument("--reporting", action="store_true", help="the networks that report, not those that choose")
    return parser.parse_args()


def main() -> None:
    """Write the tables and the operating curves."""
    arguments = _parse()
    families = [Family.read(preset, arguments.rows, reporting=arguments.reporting) for preset in _PRESETS]
    networks = list(heard(families))
    made = [table(networks) for table in (level, power, operating, correlations)]
    name = "witnesses_reporting" if arguments.reporting else "witnesses"
    said = f"python -m benchmarks.accuracy.witnesses{' --reporting' if arguments.reporting else ''}"
    heading = f"Made by `{said}` at commit {commit()}. Counts with 95 % intervals (Wilson)."
    text = page("Witnesses", heading, *(each.markdown() for each in made))
    print(text)
    document = {"command": said, "commit": commit(), "tables": [asdict(each) for each in made]}
    command.publish(arguments.out, name, text, document)
    if arguments.out is not None:
        draw(networks, arguments.out / f"{name}_roc.svg")


if __name__ == "__main__":
    main()
