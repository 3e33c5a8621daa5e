"""How an option is written: once, as a field with its default, help text, panel, spelling and bounds."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

T = TypeVar("T")

IMAGES = "Images and preprocessing"
SEARCH = "Search"
STATISTICS = "Statistics"
RUNNING = "Running"
OUTPUT = "Output"
PANELS = (IMAGES, SEARCH, STATISTICS, RUNNING, OUTPUT)
"""Headings of `scanner check --help`, in order."""


@dataclass(frozen=True, slots=True)
class Table:
    """Where a table of variants stands. `choices` reads the names of its entries and imports nothing for that."""

    module: str
    """Module that has the table."""
    name: str
    """Its name there."""


@dataclass(frozen=True, slots=True)
class Option:
    """What is known of an option beside the name and type of its field."""

    default: Any
    """What it is unless it is given."""
    about: str
    """Help text; `{names}` stands for the values that it may have, `{default}` for its default."""
    panel: str
    """One of `PANELS`."""
    flag: str = ""
    """How the command line spells it, by default as its field. `--on/--off` has two spellings; `--no-...` is off."""
    low: float | None = None
    """Least value."""
    high: float | None = None
    """Largest value."""
    choices: tuple[str | Table, ...] = ()
    """Values that it may have, and tables whose names it may have; none is no restriction."""
    shown: bool = False
    """Whether help shows the default beside the text. Presets and `infer` leave such an option alone."""
    decides_pair: bool = False
    """Whether it decides what the search for one pair finds: a journal holds for one value of it only."""

    @property
    def spelled(self) -> str:
        """Its spelling in messages."""
        return self.flag.partition("/")[0]

    @property
    def switches_off(self) -> bool:
        """Whether giving it on the command line makes the field false."""
        return self.flag.startswith("--no-")


def option(default: T, about: str, panel: str, **rules: Any) -> T:
    """A field that is an option.

    Args:
        default: Its default.
        about: Help text.
        panel: One of `PANELS`.
        rules: Further fields of `Option`.
    """
    return field(default=default, metadata={"option": Option(default, about, panel, **rules)})


def options_of(kind: Any) -> dict[str, Option]:
    """The options among the fields of a dataclass, by name."""
    found = {entry.name: entry.metadata["option"] for entry in fields(kind) if "option" in entry.metadata}
    return {name: replace(each, flag=each.flag or f"--{name.replace('_', '-')}") for name, each in found.items()}
