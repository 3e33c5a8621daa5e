"""Clean images from a folder: one subfolder per class, a table of labels, parquet files, or image files alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.errors import CleanSetError
from backscan.scanner.images import image_tables, passed_over, splits
from backscan.scanner.images.class_numbers import number_classes
from backscan.scanner.images.class_tables import find_numbers, read_tables
from backscan.scanner.images.limits import ReadImages
from backscan.scanner.images.resizing import of_one_kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.scanner.images.decoding import Decoding
    from backscan.scanner.images.image_tables import ImageTable

_CLASS_FILES = (
    *("imagenet_class_index.json", "class_index.json", "class_to_idx.json", "classes.json", "synset_words.txt"),
    *("LOC_synset_mapping.txt", "classes.txt", "class_names.txt", "labels.txt"),
)
"""Names under which class numbers are found in a data folder."""
_PARQUET = ".parquet"
_LONGEST_NUMBER = 7


@dataclass(frozen=True, slots=True)
class Labelling:
    """What is known of the classes from outside a folder."""

    file: Path | None = None
    """Class numbers, or a table of pictures and labels."""
    class_names: Sequence[str] | None = None
    """Names of the model's classes in their order."""


@dataclass(frozen=True, slots=True)
class _Files:
    """Pictures to decode, with what is said of them."""

    files: Sequence[Path]
    """Files, class by class in order of class number."""
    labels: Sequence[int] | None
    """Class number of each."""
    names: Mapping[int, str]
    """Names of the classes."""
    remarks: Sequence[str]
    """What weakens the evidence or was guessed."""
    passed_over: Counter[str]
    """Ending -> number of files that are no pictures that can be read here."""


def read_folder(path: Path, labelling: Labelling, decoding: Decoding) -> ReadImages:
    """Read all image files, class by class in order of class number, each class in order of file names.

    Args:
        path: Folder with one subfolder per class (searched in depth), perhaps beneath `train/`, `val/` or `test/`, or
            `data/`; with a table of files and labels; with parquet files; or with image files only.
        labelling: Class numbers of the subfolders, or labels of the pictures.
        decoding: Where pictures are decoded.

    Returns:
        The images and, if they are known, their labels.

    Raises:
        CleanSetError: no images, images beside subfolders, or a file that is no plain image.
    """
    table = _table(path, labelling.file)
    if table is not None:
        return _read(_by_table(path, table, labelling), path, decoding)
    parquet = _parquet_files(path)
    if parquet:
        return _read_parquet(path, parquet, labelling, decoding)
    folders = _folders(path)
    part = splits.chosen_part(folders)
    if len(folders) == 1 and part is None and splits.is_above_classes(folders[0], _folders(folders[0])):
        return read_folder(folders[0], labelling, decoding)
    if part is None:
        return _read(_by_folder(path, folders, labelling), path, decoding)
    found = _by_folder(part, _folders(part), labelling)
    others = [folder for folder in folders if folder != part]
    return _read(_with_others(found, part, others), path, decoding)


def _with_others(found: _Files, part: Path, others: Sequence[Path]) -> _Files:
    """The files of one part of a data set, with what was left of the others."""
    if not others:
        return found
    left = sum(len(files) + sum(rest.values()) for files, rest in (_image_files(each, deep=True) for each in others))
    named = " and ".join(f"{folder.name}/" for folder in others)
    remark = (
        f"the images of {part.name}/ were taken, and {left} file{'s' * (left != 1)} of {named} passed over: "
        "name one of them to take it"
    )
    return _Files(found.files, found.labels, found.names, (remark, *found.remarks), found.passed_over)


def _table(path: Path, file: Path | None) -> ImageTable | None:
    """The table of pictures and labels: the given one, else one that lies in the folder and is of its pictures."""
    if file is not None:
        return image_tables.read_image_table(file) if file.suffix.lower() in image_tables.SUFFIXES else None
    for name in image_tables.FOUND:
        try:
            table = image_tables.read_image_table(path / name) if (path / name).is_file() else None
        except CleanSetError:  # nobody said that this file has labels
            continue
        files, _ = _image_files(path, deep=True) if table is not None else ([], None)
        if table is not None and 2 * len(table.labelled(files, path)) >= len(files) > 0:
            return table
    return None


def _by_table(path: Path, table: ImageTable, labelling: Labelling) -> _Files:
    files, ignored = _image_files(path, deep=True)
    labelled = table.labelled(files, path)
    if not labelled:
        example = next(iter(table.labels), "nothing")
        raise CleanSetError(
            f"expected labels of the {len(files)} images in {path.name}, found none of them in {table.name} (its first "
            f"file is {example}): write the files as they are called beneath {path.name}"
        )
    numbers, guess = _numbers_of(sorted({label for _, label in labelled}), table, labelling, path)
    order = sorted((numbers[label], file, label) for file, label in labelled)
    remarks = [f"labels from {table.name}"] if labelling.file is None else []
    remarks += [guess] if guess else []
    unlabelled, unfound = len(files) - len(labelled), len(table.labels) - len({file for file, _ in labelled})
    remarks += [f"{unlabelled} images without a label in {table.name} were passed over"] if unlabelled else []
    remarks += [f"{unfound} files that {table.name} names were not found"] if unfound > 0 else []
    if table.name in image_tables.FOUND:
        ignored = _without(ignored, table.name)
    names = {number: label for number, _, label in order if not _is_number(label)}
    return _Files([file for _, file, _ in order], [number for number, _, _ in order], names, remarks, ignored)


def _numbers_of(
    labels: Sequence[str], table: ImageTable, labelling: Labelling, path: Path
) -> tuple[dict[str, int], str | None]:
    """Class numbers of the labels of a table, and a warning where they are a guess."""
    if all(map(_is_number, labels)):
        return {label: int(float(label)) for label in labels}, None
    found = _found_numbers(path, labels) if labelling.class_names is None else None
    if found is not None:
        return found[0], None
    return number_classes(labels, None, class_names=labelling.class_names, called=f"labels of {table.name}")


def _is_number(label: str) -> bool:
    whole = label.removesuffix(".0")
    return whole.isascii() and whole.isdecimal() and len(whole) <= _LONGEST_NUMBER


def _by_folder(path: Path, folders: Sequence[Path], labelling: Labelling) -> _Files:
    loose, ignored = _image_files(path, deep=False)
    if loose and folders:
        raise CleanSetError(
            f"expected image files or class folders in {path.name}, found both ({loose[0].name}, {folders[0].name}): "
            "move the files into class folders, or write a table of files and labels for --labels"
        )
    if not folders:
        if labelling.file is not None:
            raise CleanSetError(
                f"expected class folders in {path.name} for --labels, found none, and no files and labels in "
                f"{labelling.file.name}: leave --labels out, or pass a table (.csv, .jsonl) with columns file_name and "
                "label"
            )
        return _Files(loose, None, {}, (), ignored)
    names = [folder.name for folder in folders]
    numbers, remarks = _number_folders(path, names, labelling)
    if remarks and remarks[0].startswith(_FROM):
        ignored = _without(ignored, remarks[0].removeprefix(_FROM))
    files: list[Path] = []
    labels: list[int] = []
    for folder in sorted(folders, key=lambda folder: numbers[folder.name]):
        found, others = _image_files(folder, deep=True)
        number = numbers[folder.name]
        if not found:
            remarks.append(f"class folder {folder.name!r} has no images, so nothing is searched from class {number}")
        files += found
        labels += [number] * len(found)
        ignored += others
    return _Files(files, labels, {number: name for name, number in numbers.items()}, remarks, ignored)


_FROM = "class numbers from "


def _number_folders(path: Path, names: Sequence[str], labelling: Labelling) -> tuple[dict[str, int], list[str]]:
    """Numbers of class folders; and from which file of the folder they are, or that they are a guess."""
    is_open = labelling.file is None and labelling.class_names is None
    found = _found_numbers(path, names) if is_open and not all(map(_is_number, names)) else None
    if found is not None:
        return found[0], [f"{_FROM}{found[1]}"]
    numbers, guess = number_classes(names, labelling.file, class_names=labelling.class_names)
    return numbers, [guess] if guess else []


def _found_numbers(path: Path, names: Sequence[str]) -> tuple[dict[str, int], str] | None:
    """Numbers from a file of classes that lies in the folder or above the part, if it has all names once."""
    for place in (path, path.parent) if path.name.lower() in splits.ORDER else (path,):
        for name in _CLASS_FILES:
            try:
                numbers = find_numbers(names, read_tables(place / name)) if (place / name).is_file() else None
            except CleanSetError:  # nobody said that this file is about classes
                continue
            if numbers is not None and len(set(numbers.values())) == len(names):
                return numbers, name
    return None


def _without(ignored: Counter[str], name: str) -> Counter[str]:
    """The files that were passed over, less one that was used."""
    return +(ignored - Counter([Path(name).suffix.lower()]))


def _folders(path: Path) -> list[Path]:
    return [entry for entry in _entries(path) if entry.is_dir() and not entry.name.startswith(".")]


def _entries(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except OSError as error:
        raise CleanSetError(f"expected a readable folder at {path}, found: {error.strerror}") from error


def loose_pictures(path: Path) -> tuple[str, ...]:
    """Names of the image files that lie in a folder itself, in the order in which they are read.

    Raises:
        CleanSetError: the folder cannot be read.
    """
    return tuple(file.name for file in _image_files(path, deep=False)[0]) if path.is_dir() else ()


def _image_files(path: Path, *, deep: bool) -> tuple[list[Path], Counter[str]]:
    """Regular image files in order of their names, and endings of the other files; hidden ones are no files here."""
    found: list[Path] = []
    ignored: Counter[str] = Counter()

    def refuse(error: OSError) -> None:
        raise CleanSetError(f"expected a readable folder at {error.filename}, found: {error.strerror}") from error

    for folder, subfolders, names in os.walk(path, onerror=refuse):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".")) if deep else []
        for name in sorted(name for name in names if not name.startswith(".")):
            file = Path(folder, name)
            suffix = file.suffix.lower()
            if passed_over.is_picture(suffix) and file.is_file():
                found.append(file)
            else:
                ignored[suffix] += 1
    return found, ignored


def _parquet_files(path: Path) -> list[Path]:
    """Parquet files right in a folder or in a folder of it, where there are no pictures beside them."""
    places = [path, *_folders(path)]
    files = [entry for place in places for entry in _entries(place) if entry.suffix.lower() == _PARQUET]
    is_plain = files and not any(passed_over.is_picture(entry.suffix.lower()) for p in places for entry in _entries(p))
    return files if is_plain else []


def _read_parquet(path: Path, files: Sequence[Path], labelling: Labelling, decoding: Decoding) -> ReadImages:
    if labelling.file is not None:
        raise CleanSetError(
            f"expected class folders or pictures in {path.name} for --labels, found parquet files, which have labels "
            "of their own: leave --labels out"
        )
    parts = {file: splits.part_of(file.relative_to(path).as_posix()) for file in files}
    part = splits.first_part(parts.values())
    chosen = [file for file in files if parts[file] == part]
    read = decoding.parquet(chosen)
    others = sorted({parts[file] or "other" for file in files if parts[file] != part})
    number = len(files) - len(chosen)
    left = f"{number} file{'s' * (number != 1)} of {' and '.join(others)} passed over"
    notes = (f"the images of the part {part} were taken, and {left}",) if others else ()
    return ReadImages(read.images, read.labels, read.class_names, (*notes, *read.warnings))


def _read(found: _Files, root: Path, decoding: Decoding) -> ReadImages:
    images, notes = _read_files(found, root, decoding)
    labels = None if found.labels is None else np.array(found.labels, np.int64)
    return ReadImages(images, labels, found.names, (*found.remarks, *notes, *passed_over.note(found.passed_over)))


def _read_files(found: _Files, root: Path, decoding: Decoding) -> tuple[list[NDArray[np.float32]], tuple[str, ...]]:
    """The images [C, H, W] of one channel count, and a note if grey ones had to become coloured."""
    if not found.files:
        rest = "".join(f" ({each})" for each in passed_over.note(found.passed_over))
        raise CleanSetError(
            f"expected image files (PNG, JPEG, ...) in {root}, found none{rest}: add some images of each class"
        )
    return of_one_kind(decoding.pictures(found.files))
