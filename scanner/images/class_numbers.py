"""Class numbers of folders named by class: numeric names as they are, else a labels file, else sorted order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from backscan.scanner.errors import CleanSetError
from backscan.scanner.store.files import read_text

if TYPE_CHECKING:
    from pathlib import Path

_NAMES_SHOWN = 5


def number_classes(names: Sequence[str], labels_file: Path | None) -> tuple[dict[str, int], str | None]:
    """Find the class number of every folder.

    Args:
        names: Folder names.
        labels_file: File with the number of each name, see `read_labels_file`; None if there is none.

    Returns:
        Number by name, and a warning if the numbers are only a guess (sorted order), else None.

    Raises:
        CleanSetError: a name without a number, two names with one number, or an unreadable labels file.
    """
    if labels_file is not None:
        return _checked(read_labels_file(labels_file, names), labels_file.name), None
    if all(name.isascii() and name.isdecimal() for name in names):
        return _checked({name: int(name) for name in names}, "the folder names"), None
    numbers = {name: number for number, name in enumerate(sorted(names))}
    shown = ", ".join(f"{name} = {number}" for name, number in list(numbers.items())[:_NAMES_SHOWN])
    more = ", ..." if len(numbers) > _NAMES_SHOWN else ""
    return numbers, f"class numbers follow the sorted folder names ({shown}{more}): pass --labels if that is wrong"


def read_labels_file(path: Path, names: Sequence[str]) -> dict[str, int]:
    """Numbers of the given names from a labels file.

    Three forms are known: JSON `{name: number}`; text lines `name number`; one name per line, numbered from 0.

    Args:
        path: The file.
        names: Names that need a number. A text whose lines are all names wins over `name number`, so that names may
            end in a number.

    Returns:
        Number by name, for `names` only.

    Raises:
        CleanSetError: the file cannot be read, has another form, or lacks a name.
    """
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise CleanSetError(f"expected a text file of class names at {path} (--labels), found none: {error}") from error
    tables = [_from_json(text, path.name)] if text.lstrip().startswith("{") else _from_lines(text)
    for table in tables:
        if all(name in table for name in names):
            return {name: table[name] for name in names}
    known = tables[-1]
    missing = next(name for name in names if name not in known)
    raise CleanSetError(
        f"expected a class number for folder {missing!r} in {path.name}, found {len(known)} other names: add it as a "
        f"line `{missing} NUMBER`"
    )


def _from_json(text: str, where: str) -> Mapping[str, int]:
    try:
        table = json.loads(text)
    except ValueError as error:
        raise CleanSetError(f"expected JSON {{name: number}} in {where}, found a mistake: {error}") from error
    wrong = next((name for name, number in table.items() if type(number) is not int or number < 0), None)
    if wrong is not None:
        raise CleanSetError(
            f"expected whole numbers from 0 in {where}, found {table[wrong]!r} for {wrong!r}: correct it"
        )
    return dict(table)


def _from_lines(text: str) -> list[Mapping[str, int]]:
    """The two readings of a text: a name per line, and a name and its number per line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    readings: list[Mapping[str, int]] = [{line: number for number, line in enumerate(lines)}]
    pairs = [line.rsplit(maxsplit=1) for line in lines]
    if lines and all(len(pair) == 2 and pair[1].isascii() and pair[1].isdecimal() for pair in pairs):
        readings.append({name: int(number) for name, number in pairs})
    return readings


def _checked(numbers: dict[str, int], where: str) -> dict[str, int]:
    """The same numbers, if no two names share one."""
    owner: dict[int, str] = {}
    for name, number in numbers.items():
        if number in owner:
            raise CleanSetError(
                f"expected one folder for each class, found {owner[number]!r} and {name!r} for class {number} by "
                f"{where}: merge the folders or correct the numbers"
            )
        owner[number] = name
    return numbers
