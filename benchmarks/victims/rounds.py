"""Train populations in the background, the most useful networks first; a killed run continues where it was.

    nice -n 15 python -m benchmarks.victims.rounds --cifar10 FOLDER numerals:5 photos:1 numbers:2

A word is a preset and how many networks of each group a round adds to it; a preset may be followed by words that its
groups' names begin with, `numerals/patch/large:10`. The rounds of all words take turns until every group has its number
that chooses. Seeds alone decide a network, so what another run or another command trained is found and not made again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Self

from benchmarks import command
from benchmarks.victims.plans import Plan, make_plans
from benchmarks.victims.presets import PRESETS
from benchmarks.victims.victims import CACHE, obtain


@dataclass(frozen=True, slots=True)
class Share:
    """Some groups of a preset and how many networks of each a round adds."""

    preset: str
    """Name in `PRESETS`."""
    beginnings: tuple[str, ...]
    """What names of groups begin with; none is all groups."""
    each: int
    """Networks of a group in a round."""

    @classmethod
    def parse(cls, word: str) -> Self:
        """The share of a word such as `numerals/patch/large:10`."""
        names, _, each = word.partition(":")
        preset, *beginnings = names.split("/")
        return cls(preset, tuple(beginnings), int(each or 1))

    def rounds(self) -> Iterator[list[Plan]]:
        """Plans of one round after the other."""
        chosen = {
            name: group
            for name, group in PRESETS[self.preset].groups.items()
            if not self.beginnings or name.startswith(self.beginnings)
        }
        for first in range(0, max((group.choosing for group in chosen.values()), default=0), self.each):
            yield [
                plan
                for name, group in chosen.items()
                for plan in make_plans(self.preset, name, range(first, min(first + self.each, group.choosing)))
            ]


def in_turns(shares: Sequence[Share]) -> Iterator[Plan]:
    """All plans: the first round of every share, then the second, and so on."""
    for rounds in zip_longest(*(share.rounds() for share in shares), fillvalue=[]):
        for plans in rounds:
            yield from plans


def main() -> None:
    """Train what is missing, a line for each network."""
    parser = command.parser(__doc__)
    parser.add_argument("shares", nargs="+", type=Share.parse, help="PRESET[/BEGINNING...][:NUMBER], see above")
    parser.add_argument("--cifar10", type=Path, help="folder of CIFAR-10, for presets that need it")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder that keeps the networks")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no network after so many seconds")
    arguments = parser.parse_args()
    started = time.monotonic()
    for plan in in_turns(arguments.shares):
        if time.monotonic() - started > arguments.seconds:
            break
        [victim] = obtain([plan], cache=arguments.cache, cifar10=arguments.cifar10, device="cpu")
        success = "" if victim.effect.success_rate is None else f", success {victim.effect.success_rate:.3f}"
        line = f"{plan.preset}/{plan.group} {plan.seed}, {plan.network}: accuracy {victim.effect.accuracy:.3f}{success}"
        print(f"{line}, {victim.seconds or 0.0:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
