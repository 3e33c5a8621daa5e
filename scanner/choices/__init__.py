"""How an option is written, once, as a field with its help and bounds; and which values it may have.

Where those are the names of a table's entries, they are read from the table's text: the tables are literal, so their
text has every name. Nothing is imported for it, so whatever a table imports may ask here what is allowed. What a
program registered beside a table (`registered`) is allowed too.
"""

from __future__ import annotations

import ast
import functools
import math
import numbers
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.util import find_spec
from typing import Any, TypeVar

from backscan.scanner.choices import registered
from backscan.scanner.errors import InternalError, OptionError

T = TypeVar("T")

IMAGES = "Images and preprocessing"
SEARCH = "Search"
STATISTICS = "Statistics"
RUNNING = "Running"
OUTPUT = "Output"
PANELS = (IMAGES, SEARCH, STATISTICS, RUNNING, OUTPUT)
"""Headings of `scanner check --help-all`, in order."""


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
    from_found_file: bool = False
    """Whether a configuration file that was merely found may set it: it may say what the images are, how they are fed
    and which reports to write, not what is searched, how that is judged, what fails, or what protects the machine."""

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


RENDERERS = Table("backscan.scanner.reports", "RENDERERS")
"""Report formats."""


@functools.cache
def names(table: Table) -> tuple[str, ...]:
    """Names of a table's entries, in its order.

    Raises:
        InternalError: no such table, or one that is not written as a literal mapping.
    """
    spec = find_spec(table.module)
    loader: Any = spec and spec.loader
    for node in ast.parse(loader.get_source(table.module) if loader else "").body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=table.name), value=ast.Call(args=[ast.Dict(keys=keys)])):
                found = tuple(str(key.value) for key in keys if isinstance(key, ast.Constant))
                if len(found) == len(keys):
                    return found
    raise InternalError(f"expected the literal table {table.name} in {table.module}, found none: write out its names")


def known(table: Table) -> tuple[str, ...]:
    """Names of a table's entries, and the import paths that were registered beside it."""
    return names(table) + registered.names_in(table.name)


def allowed(option: Option) -> tuple[str, ...]:
    """The values that an option may have; empty where any will do."""
    groups = ([choice] if isinstance(choice, str) else known(choice) for choice in option.choices)
    return tuple(name for group in groups for name in group)


def told(option: Option) -> str:
    """The help text of an option, its names and default filled in."""
    default, mark = option.default, "" if option.shown else " (by default)"
    marked = [f"{each}{mark}" if each == default else each for each in allowed(option)]
    written = alternatives(default, "and") if isinstance(default, tuple) else default
    return option.about.format(names=alternatives(marked), default=written)


def alternatives(words: Sequence[str], last: str = "or") -> str:
    """`a, b or c`."""
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _number(value: float) -> str:
    try:
        return f"{value:g}"
    except OverflowError:  # a whole number beyond all floats
        return "far more" if value > 0 else "far less"


def check_value(option: Option, value: Any) -> None:
    """Refuse a value that an option may not have.

    Raises:
        OptionError: the option, what was expected and what was found.
    """
    if option.low is not None and option.high is not None and not option.low <= value <= option.high:
        raise OptionError(
            f"expected {option.spelled} between {option.low:g} and {option.high:g}, found {_number(value)}"
        )
    several = isinstance(option.default, tuple) and value != option.default
    if several and option.choices and isinstance(value, str):
        raise OptionError(f"expected {option.spelled} as a tuple of names, found a text: write ({value!r},)")
    if option.choices:
        choices = allowed(option)
        for each in value if isinstance(value, tuple | list) else (value,):
            if each not in choices:
                raise OptionError(
                    f"expected {option.spelled} to be one of {', '.join(choices)}, found {each!r}{_hint(each)}"
                )
        if several and (not value or len(set(value)) < len(value)):
            raise OptionError(
                f"expected at least one {option.spelled}, each of them once, found {', '.join(value) or 'none'}"
            )
    elif not isinstance(value, str) and not all(map(math.isfinite, _numbers(value))):
        raise OptionError(f"expected {option.spelled} of finite numbers, found {value}")


def _hint(value: object) -> str:
    """What to do with an import path that nobody registered."""
    return ": register it in the program that scans (docs/api.md)" if registered.is_import_path(value) else ""


def _numbers(value: Any) -> list[Any]:
    """The numbers in a value that may be infinite, whatever holds them."""
    return (
        [each for each in value if isinstance(each, numbers.Real) and not isinstance(each, int)]
        if isinstance(value, Iterable)
        else []
    )
