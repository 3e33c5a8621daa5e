"""Class numbers of folders: numeric names as they are, else by a file, by the names of the classes, by sorted order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backscan.scanner.errors import CleanSetError
from backscan.scanner.images.class_tables import find_numbers, first_missing, read_tables, table_of

if TYPE_CHECKING:
    from pathlib import Path

_NAMES_SHOWN = 5


def number_classes(
    names: Sequence[str],
    labels_file: Path | None,
    *,
    class_names: Sequence[str] | None = None,
    called: str = "folder names",
) -> tuple[dict[str, int], str | None]:
    """Find the class number of every folder, or of every name of a class.

    Args:
        names: Names of the folders.
        labels_file: File with the number of each name, see `class_tables.read_tables`; None if there is none.
        class_names: Names of the model's classes in their order, where the user gave them; they may be written with
            other case, accents and dividers than the folders'.
        called: What the names are, for messages.

    Returns:
        Number by name, and a warning if the numbers are only a guess (sorted order), else None.

    Raises:
        CleanSetError: a name without a number, two names with one number, or an unreadable labels file.
    """
    if labels_file is not None:
        return _checked(read_labels_file(labels_file, names), labels_file.name), None
    if all(name.isascii() and name.isdecimal() for name in names):
        return _checked({name: int(name) for name in names}, f"the {called}"), None
    given = find_numbers(names, [table_of(class_names)]) if class_names else None
    if given is not None:
        return _checked(given, "--class-names"), None
    numbers = {name: number for number, name in enumerate(sorted(names))}
    shown = ", ".join(f"{name} = {number}" for name, number in list(numbers.items())[:_NAMES_SHOWN])
    more = ", ..." if len(numbers) > _NAMES_SHOWN else ""
    other = ""
    if class_names:
        other = f", as --class-names has no {first_missing(names, table_of(class_names))!r}"
    guess = f"class numbers follow the sorted {called} ({shown}{more}){other}: pass --labels if that is wrong"
    return numbers, guess


def read_labels_file(path: Path, names: Sequence[str]) -> dict[str, int]:
    """Numbers of the given names from a labels file.

    Args:
        path: The file, in one of the forms of `class_tables.read_tables`.
        names: Names that need a number. A text whose lines are all names wins over `name number`, so that names may
            end in a number.

    Returns:
        Number by name, for `names` only.

    Raises:
        CleanSetError: the file cannot be read, has another form, or lacks a name.
    """
    tables = read_tables(path)
    found = find_numbers(names, tables)
    if found is not None:
        return found
    missing = first_missing(names, tables[-1])
    raise CleanSetError(
        f"expected a class number for folder {missing!r} in {path.name}, found {len(tables[-1])} other names: add it "
        f"as a line `{missing} NUMBER`"
    )


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
