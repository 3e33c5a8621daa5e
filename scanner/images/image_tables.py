"""Tables that give each picture its label: CSV, TSV or JSON lines, with a column of files and one of labels."""

from __future__ import annotations

import csv
import json
import os.path
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from backscan.scanner.errors import CleanSetError
from backscan.scanner.store.files import read_text

_MOST_BYTES = 1 << 28
_DIVIDERS = {".csv": ",;\t", ".tsv": "\t"}
_LINES = frozenset({".jsonl", ".ndjson"})
SUFFIXES = frozenset(_DIVIDERS) | _LINES
"""Endings of such tables."""
FOUND = ("labels.csv", "metadata.csv", "metadata.jsonl", "labels.jsonl", "labels.tsv", "annotations.csv")
"""Names under which a table is found in the folder of the pictures, the first that there is."""
_FILES = ("file_name", "filename", "file", "image", "image_path", "filepath", "path", "image_name", "image_id", "id")
_LABELS = ("label", "labels", "class", "class_name", "category", "target", "y", "class_id", "label_id", "diagnosis")


@dataclass(frozen=True, slots=True)
class ImageTable:
    """Labels by file."""

    name: str
    """Name of the table, for messages."""
    labels: Mapping[str, str]
    """Label as it is written, by file as it is written, with forward slashes."""

    def labelled(self, files: Sequence[Path], root: Path) -> list[tuple[Path, str]]:
        """The files that have a label, with it: by their path from the root, by name or name without ending.

        A name counts only where one file has it: `cat/0.png` and `dog/0.png` are told apart by their paths alone. Paths
        in the table that begin in another folder count by their names.

        Args:
            files: Files beneath the root.
            root: Folder from which paths in the table begin.
        """
        names, stems = Counter(file.name for file in files), Counter(file.stem for file in files)
        listed = Counter(PurePosixPath(key).name for key in self.labels)
        elsewhere = {PurePosixPath(key).name: label for key, label in self.labels.items()}

        def label_of(file: Path) -> str | None:
            relative = file.relative_to(root)
            keys = [relative.as_posix(), relative.with_suffix("").as_posix()]
            keys += [file.name] if names[file.name] == 1 else []
            keys += [file.stem] if stems[file.stem] == 1 else []
            known = next((self.labels[key] for key in keys if key in self.labels), None)
            if known is None and names[file.name] == listed[file.name] == 1:
                return elsewhere[file.name]
            return known

        return [(file, label) for file in files if (label := label_of(file)) is not None]


def read_image_table(path: Path) -> ImageTable | None:
    """The table in a file.

    Args:
        path: A file with one of the `SUFFIXES`.

    Returns:
        The labels; None where the file has no column of files, as a table of classes has not.

    Raises:
        CleanSetError: the file cannot be read, or a row lacks file or label, or gives a file two labels.
    """
    try:
        text = read_text(path, max_bytes=_MOST_BYTES).removeprefix("\ufeff")
    except (OSError, UnicodeDecodeError) as error:
        raise CleanSetError(f"expected a table of labels at {path}, found none that can be read: {error}") from error
    suffix = path.suffix.lower()
    rows = _json_rows(text, path.name) if suffix in _LINES else _csv_rows(text, _DIVIDERS[suffix], path.name)
    if rows is None:
        return None
    labels: dict[str, str] = {}
    for number, (file, label) in enumerate(rows, start=1):
        key = os.path.normpath(file.strip().replace("\\", "/")).removeprefix("./")
        if labels.setdefault(key, label) != label:
            raise CleanSetError(
                f"expected one label for each file, found {labels[key]!r} and {label!r} for {key} in row {number} of "
                f"{path.name}: correct it"
            )
    return ImageTable(path.name, labels)


def _csv_rows(text: str, dividers: str, where: str) -> list[tuple[str, str]] | None:
    first = text.partition("\n")[0]
    divider = max(dividers, key=first.count)
    try:
        rows = [row for row in csv.reader(text.splitlines(), delimiter=divider) if any(map(str.strip, row))]
    except csv.Error as error:
        raise CleanSetError(f"expected a table with columns of files and labels in {where}, found: {error}") from error
    if not rows:
        return None
    header = [name.strip().lower() for name in rows[0]]
    columns = _columns(header)
    if columns is not None:
        rows = rows[1:]
    elif len(header) == 2 and Path(header[0]).suffix:
        columns = (0, 1)
    else:
        return None
    wrong = next((number for number, row in enumerate(rows, start=2) if len(row) <= max(columns)), None)
    if wrong is not None:
        raise CleanSetError(
            f"expected a file and a label in every row of {where}, found a short row {wrong}: correct it"
        )
    return [(row[columns[0]], row[columns[1]].strip()) for row in rows]


def _columns(header: Sequence[str]) -> tuple[int, int] | None:
    """Places of the columns of files and labels; None where one is missing."""
    places = [next((header.index(name) for name in known if name in header), -1) for known in (_FILES, _LABELS)]
    return None if -1 in places else (places[0], places[1])


def _json_rows(text: str, where: str) -> list[tuple[str, str]] | None:
    rows: list[tuple[str, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        entry = _json_object(line, number, where)
        columns = _columns([name.lower() for name in entry])
        if columns is None:
            raise CleanSetError(
                f"expected a file (file_name) and a label (label) in every line of {where}, found "
                f"{', '.join(list(entry)[:5]) or 'nothing'} in line {number}: add them"
            )
        file, label = (list(entry.values())[place] for place in columns)
        rows.append((str(file), str(label)))
    return rows or None


def _json_object(line: str, number: int, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CleanSetError(f"expected JSON in line {number} of {where}, found a mistake: {error}") from error
    if not isinstance(entry, dict):
        raise CleanSetError(f"expected an object {{...}} in line {number} of {where}, found another value: correct it")
    return entry
