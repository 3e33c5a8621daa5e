"""`train/`, `val/` and `test/` above the classes: parts of a data set, not classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

ORDER = ("validation", "valid", "val", "test", "testing", "eval", "dev", "train", "training")
"""Names of parts; the first that there is is read: images that the model was not trained on come first."""
_IN_A_NAME = re.compile(rf"(?:^|[/_.-])({'|'.join(ORDER)})(?=[/_.-]|$)", re.IGNORECASE)


def chosen_part(folders: Sequence[Path]) -> Path | None:
    """The part to read, where folders are the parts of a data set and have class folders in them.

    Args:
        folders: The folders beneath a data folder.

    Returns:
        One of them; None where they are classes.
    """
    if not folders or not all(folder.name.lower() in ORDER for folder in folders):
        return None
    with_classes = [folder for folder in folders if _has_folders(folder)]
    return min(with_classes, key=lambda folder: ORDER.index(folder.name.lower()), default=None)


def part_of(name: str) -> str:
    """The part that a file belongs to by its name, such as `data/test-00000-of-00001.parquet`; empty for none."""
    match = _IN_A_NAME.search(name)
    return match.group(1).lower() if match else ""


def first_part(parts: Iterable[str]) -> str:
    """Of the parts that there are the one to read."""
    return min(parts, key=lambda part: ORDER.index(part) if part in ORDER else -1)


def _has_folders(folder: Path) -> bool:
    try:
        return any(entry.is_dir() and not entry.name.startswith(".") for entry in folder.iterdir())
    except OSError:
        return False
