"""Train and scan populations in the background, the most useful networks first; a killed run continues where it was.

    nice -n 15 python -m benchmarks.accuracy.rounds --cifar10 FOLDER numerals:5 photos:1 numbers:2

A word is a preset and how many of its networks make a turn; a preset may be followed by words that its groups' names
begin with, `numerals/patch/large:10`. Within a word the first network of every group comes first, then the second,
until every group has its number that chooses, or with `--reporting` as many that report; the words take turns. What
another run or another command trained or scanned is found and not made again. Every network is scanned once, for every
witness; `python -m benchmarks.accuracy.populations --harvest` makes rows and tables of what is there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Self

from backscan.scanner.config import MOST_FEW_CLASSES
from benchmarks import command
from benchmarks.accuracy.outcomes import FEW_CLASSES
from benchmarks.accuracy.scans import defender_images, obtain_scan
from benchmarks.victims.plans import Plan, make_plans
from benchmarks.victims.presets import PRESETS
from benchmarks.victims.seeds import FIRST_REPORTING
from benchmarks.victims.victims import CACHE, Victim, obtain


@dataclass(frozen=True, slots=True)
class Share:
    """Some groups of a preset and how many networks make a turn."""

    preset: str
    """Name in `PRESETS`."""
    beginnings: tuple[str, ...]
    """What names of groups begin with; none is all groups."""
    each: int
    """Networks in a turn."""

    @classmethod
    def parse(cls, word: str) -> Self:
        """The share of a word such as `numerals/patch/large:10`."""
        names, _, each = word.partition(":")
        preset, *beginnings = names.split("/")
        return cls(preset, tuple(beginnings), int(each or 1))

    def turns(self, first_seed: int = 0) -> Iterator[tuple[Plan, ...]]:
        """Plans of one turn after the other."""
        plans = self._plans(first_seed)
        while turn := tuple(islice(plans, self.each)):
            yield turn

    def _plans(self, first_seed: int) -> Iterator[Plan]:
        groups = {
            name: group.choosing
            for name, group in PRESETS[self.preset].groups.items()
            if not self.beginnings or name.startswith(self.beginnings)
        }
        for place in range(max(groups.values(), default=0)):
            for name in (name for name, number in groups.items() if place < number):
                yield from make_plans(self.preset, name, [first_seed + place])


def in_turns(shares: Sequence[Share], *, first_seed: int = 0) -> Iterator[Plan]:
    """All plans: the first turn of every share, then the second, and so on; seeds of a group begin with the first."""
    for turns in zip_longest(*(share.turns(first_seed) for share in shares), fillvalue=()):
        for plans in turns:
            yield from plans


SETTINGS = ("witnesses", "mask", "large-window")
"""What is searched: all that a way of concluding could need."""


def settings_of(preset: str) -> tuple[str, ...]:
    """What is searched of the networks of a preset."""
    counts = {group.classes for group in PRESETS[preset].groups.values()}
    few = None not in counts and max(filter(None, counts)) <= MOST_FEW_CLASSES
    return (FEW_CLASSES,) if few else SETTINGS


IMAGES = 100
"""Images per class for the search."""


def main() -> None:
    """Train and scan what is missing, a line for each network."""
    parser = command.parser(__doc__)
    parser.add_argument("shares", nargs="+", type=Share.parse, help="PRESET[/BEGINNING...][:NUMBER], see above")
    parser.add_argument("--cifar10", type=Path, help="folder of CIFAR-10, for presets that need it")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder that keeps networks and scans")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no network after so many seconds")
    parser.add_argument("--no-scans", action="store_true", help="train only")
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--reporting", action="store_true", help="the networks that report, as many as choose")
    seeds.add_argument("--first-seed", type=int, default=0, help="that of the first network of each group")
    arguments = parser.parse_args()
    started = time.monotonic()
    for plan in in_turns(arguments.shares, first_seed=FIRST_REPORTING if arguments.reporting else arguments.first_seed):
        if time.monotonic() - started > arguments.seconds:
            break
        [victim] = obtain([plan], cache=arguments.cache, cifar10=arguments.cifar10, device="cpu")
        said = _said(victim)
        if not arguments.no_scans:
            images = defender_images(victim, cifar10=arguments.cifar10, most_images=IMAGES)
            settings = settings_of(plan.preset)
            kept = [obtain_scan(victim, each, cache=arguments.cache, images=images) for each in settings]
            said += f", scanned in {sum(each.seconds for each in kept):.0f} s"
        print(said, file=sys.stderr, flush=True)


def _said(victim: Victim) -> str:
    plan, effect = victim.plan, victim.effect
    success = "" if effect.success_rate is None else f", success {effect.success_rate:.3f}"
    did = f"accuracy {effect.accuracy:.3f}{success}, {victim.seconds or 0.0:.0f} s"
    return f"{plan.preset}/{plan.group} {plan.seed}, {plan.network}: {did}"


if __name__ == "__main__":
    main()
