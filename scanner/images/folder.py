"""Clean images from a folder: one subfolder per class, or image files alone without labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.errors import CleanSetError
from backscan.scanner.images.class_numbers import number_classes
from backscan.scanner.images.limits import ReadImages

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.scanner.images.decoding import Decoding

_SUFFIXES = frozenset({".bmp", ".gif", ".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".pnm", ".tif", ".tiff", ".webp"})


def read_folder(path: Path, labels_file: Path | None, decoding: Decoding) -> ReadImages:
    """Read all image files, class by class in order of class number, each class in order of file names.

    Args:
        path: Folder with one subfolder per class (searched in depth), or with image files only.
        labels_file: Class numbers of the subfolders, see `number_classes`.
        decoding: Where pictures are decoded.

    Returns:
        The images and, with subfolders, their labels.

    Raises:
        CleanSetError: no images, images beside subfolders, or a file that is no plain image.
    """
    loose, ignored = _image_files(path, deep=False)
    folders = {entry.name: entry for entry in _entries(path) if entry.is_dir() and not entry.name.startswith(".")}
    if loose and folders:
        raise CleanSetError(
            f"expected image files or class folders in {path.name}, found both ({loose[0].name}, {min(folders)}): move "
            "the files into class folders"
        )
    if not folders:
        if labels_file is not None:
            raise CleanSetError(f"expected class folders in {path.name} for --labels, found none: leave --labels out")
        images, notes = _read_files(loose, path, decoding)
        return ReadImages(images, None, {}, (*notes, *_ignored_note(ignored)))
    numbers, guess = number_classes(list(folders), labels_file)
    remarks = [guess] if guess else []
    files: list[Path] = []
    labels: list[int] = []
    for name in sorted(folders, key=numbers.__getitem__):
        found, passed_over = _image_files(folders[name], deep=True)
        if not found:
            remarks.append(f"class folder {name!r} has no images, so nothing is searched from class {numbers[name]}")
        files += found
        labels += [numbers[name]] * len(found)
        ignored += passed_over
    images, notes = _read_files(files, path, decoding)
    names = {number: name for name, number in numbers.items()}
    return ReadImages(images, np.array(labels, np.int64), names, (*remarks, *notes, *_ignored_note(ignored)))


def _entries(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except OSError as error:
        raise CleanSetError(f"expected a readable folder at {path}, found: {error.strerror}") from error


def _image_files(path: Path, *, deep: bool) -> tuple[list[Path], int]:
    """Regular image files in order of their names, and how many other files were passed over."""
    found: list[Path] = []
    ignored = 0

    def refuse(error: OSError) -> None:
        raise CleanSetError(f"expected a readable folder at {error.filename}, found: {error.strerror}") from error

    for folder, subfolders, names in os.walk(path, onerror=refuse):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".")) if deep else []
        for name in sorted(name for name in names if not name.startswith(".")):
            file = Path(folder, name)
            if file.suffix.lower() in _SUFFIXES and file.is_file():
                found.append(file)
            else:
                ignored += 1
    return found, ignored


def _ignored_note(ignored: int) -> tuple[str, ...]:
    return (f"{ignored} files beside the images were passed over",) if ignored else ()


def _read_files(files: list[Path], root: Path, decoding: Decoding) -> tuple[list[NDArray[np.float32]], tuple[str, ...]]:
    """The images [C, H, W] of one channel count, and a note if grey ones had to become coloured."""
    if not files:
        raise CleanSetError(
            f"expected image files (PNG, JPEG, ...) in {root}, found none: add some images of each class"
        )
    images = decoding.pictures(files)
    grey = sum(len(image) == 1 for image in images)
    if grey in (0, len(images)):
        return images, ()
    coloured = [np.repeat(image, 3, axis=0) if len(image) == 1 else image for image in images]
    return coloured, (f"{grey} of {len(images)} images are grey and were read as colour images",)
