"""`train/`, `val/` and `test/` above the classes: parts of a data set, not classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from backscan.scanner.images.passed_over import is_picture

ORDER = ("validation", "valid", "val", "test", "testing", "eval", "dev", "train", "training")
"""Names of parts; the first that there is is read: images that the model was not trained on come first."""
_FILLERS = ("set", "data", "dataset", "images", "image", "imgs", "img", "split", "part", "folder")
"""What else a part may be called: `training_set`, `val_images`, `testset`; and a folder above them: `data`."""
_IN_A_NAME = re.compile(rf"(?:^|[/_.-])({'|'.join(ORDER)})(?=[/_.-]|$)", re.IGNORECASE)


def chosen_part(folders: Sequence[Path]) -> Path | None:
    """The part to read, where folders are the parts of a data set and have class folders in them.

    Args:
        folders: The folders beneath a data folder.

    Returns:
        One of them; None where they are classes. Folders without pictures, such as `annotations/`, are neither.
    """
    parts = {folder: part for folder in folders if (part := _part_called(folder.name))}
    with_classes = [folder for folder in parts if _has_folders(folder)]
    if not with_classes or any(_has_pictures(folder) for folder in folders if folder not in parts):
        return None
    return min(with_classes, key=lambda folder: ORDER.index(parts[folder]))


def is_above_classes(folder: Path, beneath: Sequence[Path]) -> bool:
    """Whether a folder that lies alone is no class, but holds classes or parts.

    Args:
        folder: The folder.
        beneath: The folders in it.
    """
    if chosen_part(beneath) is not None:
        return True
    return folder.name.lower() in _FILLERS and len(beneath) > 1 and all(map(_has_pictures, beneath))


def _part_called(name: str) -> str:
    """The part that a folder is called by, such as `train` for `Train_Set` and `train2017`; empty for none."""
    words = [word.rstrip("0123456789") for word in re.split(r"[\s_.-]+", name.lower())]
    found = [_without_filler(word) for word in words if word not in _FILLERS]
    named = [word for word in found if word]
    return named[0] if len(named) == 1 and named[0] in ORDER else ""


def _without_filler(word: str) -> str:
    """`train` of `trainset`."""
    ends = (end for end in _FILLERS if word.endswith(end) and word.removesuffix(end) in ORDER)
    return word.removesuffix(next(ends, ""))


def part_of(name: str) -> str:
    """The part that a file belongs to by its name, such as `data/test-00000-of-00001.parquet`; empty for none."""
    match = _IN_A_NAME.search(name)
    return match.group(1).lower() if match else ""


def first_part(parts: Iterable[str]) -> str:
    """Of the parts that there are the one to read."""
    return min(parts, key=lambda part: ORDER.index(part) if part in ORDER else -1)


def _has_pictures(folder: Path) -> bool:
    try:
        return any(is_picture(path.suffix.lower()) for path in folder.rglob("*"))
    except OSError:
        return False


def _has_folders(folder: Path) -> bool:
    try:
        return any(entry.is_dir() and not entry.name.startswith(".") for entry in folder.iterdir())
    except OSError:
        return False
