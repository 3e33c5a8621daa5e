"""Files that number classes: JSON or text, in the forms in which data sets and exporters write them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from backscan.scanner.errors import CleanSetError
from backscan.scanner.store.files import read_text

if TYPE_CHECKING:
    from pathlib import Path

_MOST_BYTES = 1 << 26
_SYNSET = re.compile(r"(n\d{8})[\s,]+\S")
_MAPS_NUMBERS = ("id2label", "class_names", "classes", "names")
_MAPS_NAMES = ("label2id", "class_to_idx")

Table = Mapping[str, int]


def read_tables(path: Path) -> list[Table]:
    """The readings of a file of class numbers, the likelier first.

    JSON: `{name: number}`, `{number: name}`, `{number: [synset, name]}`, a list of names in order, or one of these
    under `id2label`, `label2id`, `class_to_idx` or `classes`. Text: a name a line, `name number` (or `name,number`), or
    `synset names`, as ImageNet's lists have it.

    Args:
        path: The file.

    Returns:
        Tables from name to number, one for each way to read the file.

    Raises:
        CleanSetError: the file cannot be read, or has another form.
    """
    try:
        text = read_text(path, max_bytes=_MOST_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise CleanSetError(f"expected a text file of class names at {path} (--labels), found none: {error}") from error
    return [_from_json(text, path.name)] if text.lstrip().startswith(("{", "[")) else _from_lines(text)


def find_numbers(names: Sequence[str], tables: Sequence[Table]) -> dict[str, int] | None:
    """Numbers of all names by the first table that has them: as they are written, else by `folded` names.

    Args:
        names: Names that need a number.
        tables: What `read_tables` gave.

    Returns:
        Number by name; None where no table has every name.
    """
    for table in tables:
        if all(name in table for name in names):
            return {name: table[name] for name in names}
    for table in map(_folded_table, tables):
        if all(folded(name) in table for name in names):
            return {name: table[folded(name)] for name in names}
    return None


def first_missing(names: Sequence[str], table: Table) -> str:
    """The first name that a table lacks, however it is written there."""
    known = _folded_table(table)
    return next((name for name in names if name not in table and folded(name) not in known), names[0])


def folded(name: str) -> str:
    """A name without case, accents and what divides its words: `Säge_blatt` and `sage blatt` are one."""
    plain = unicodedata.normalize("NFKD", name)
    letters = "".join(each for each in plain if not unicodedata.combining(each)).casefold()
    return " ".join(re.split(r"[\W_]+", letters)).strip() or name


def table_of(names: Iterable[str]) -> Table:
    """The table of names in the order of their numbers."""
    return {name: number for number, name in enumerate(names)}


def _folded_table(table: Table) -> Table:
    """The table by folded names, without those that two names share."""
    counts = Counter(folded(name) for name in table)
    return {folded(name): number for name, number in table.items() if counts[folded(name)] == 1}


def _from_json(text: str, where: str) -> Table:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CleanSetError(f"expected JSON {{name: number}} in {where}, found a mistake: {error}") from error
    inner = [content[key] for key in (*_MAPS_NUMBERS, *_MAPS_NAMES) if isinstance(content, dict) and key in content]
    content = inner[0] if inner and isinstance(inner[0], dict | list) else content
    if isinstance(content, list):
        content = {str(number): names for number, names in enumerate(content)}
    if content and all(name.isascii() and name.isdecimal() for name in content) and _holds_names(content.values()):
        return _by_number(content)
    wrong = next((name for name, number in content.items() if type(number) is not int or number < 0), None)
    if wrong is not None:
        raise CleanSetError(
            f"expected whole numbers from 0 in {where}, found {content[wrong]!r} for {wrong!r}: correct it"
        )
    return dict(content)


def _holds_names(values: Iterable[Any]) -> bool:
    return all(
        isinstance(each, str) or (isinstance(each, list) and each and all(isinstance(name, str) for name in each))
        for each in values
    )


def _by_number(content: Mapping[str, Any]) -> Table:
    """Names, and the several names of one class, by their number; a name of two classes is none."""
    entries = [
        (name, int(number))
        for number, names in content.items()
        for name in ([names] if isinstance(names, str) else names)
    ]
    counts = Counter(name for name, _ in entries)
    return {name: number for name, number in entries if counts[name] == 1}


def _from_lines(text: str) -> list[Table]:
    """The readings of a text: a name a line, a name and its number a line, ImageNet's synsets."""
    lines = [line.strip() for line in text.removeprefix("\ufeff").splitlines() if line.strip()]
    readings: list[Table] = [table_of(lines)]
    for divider in (None, ",", ";", "\t"):
        pairs = [[part.strip() for part in line.rsplit(divider, maxsplit=1)] for line in lines]
        for first, last in ((0, 1), (1, 0)):
            if lines and all(len(pair) == 2 and pair[last].isascii() and pair[last].isdecimal() for pair in pairs):
                readings.append({pair[first]: int(pair[last]) for pair in pairs})
    synsets = [match.group(1) for line in lines if (match := _SYNSET.match(line))]
    if lines and len(synsets) == len(lines):
        readings.append(table_of(synsets))
    return readings
