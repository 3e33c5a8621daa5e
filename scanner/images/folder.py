"""Clean images from a folder: one subfolder per class, or image files alone without labels."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from backscan.scanner.errors import CleanSetError
from backscan.scanner.images.class_numbers import number_classes
from backscan.scanner.images.limits import ReadImages, ReadLimits

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Only these decoders ever see the bytes, whatever a file calls itself.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_SUFFIXES = frozenset({".bmp", ".gif", ".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".pnm", ".tif", ".tiff", ".webp"})

# Modes with one plain meaning in eight bits, and what they are read as.
_CONVERSIONS = {"1": "L", "L": "L", "RGB": "RGB", "P": "RGB", "YCbCr": "RGB", "CMYK": "RGB"}
_WITH_ALPHA = {"LA": "L", "PA": "RGB", "RGBA": "RGB"}


def read_folder(path: Path, labels_file: Path | None, limits: ReadLimits) -> ReadImages:
    """Read all image files, class by class in order of class number, each class in order of file names.

    Args:
        path: Folder with one subfolder per class (searched in depth), or with image files only.
        labels_file: Class numbers of the subfolders, see `number_classes`.
        limits: Bounds on what is read.

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
        images, notes = _read_files(loose, path, limits)
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
    images, notes = _read_files(files, path, limits)
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


def _read_files(files: list[Path], root: Path, limits: ReadLimits) -> tuple[list[NDArray[np.float32]], tuple[str, ...]]:
    """The images [C, H, W] of one channel count, and a note if grey ones had to become coloured."""
    if not files:
        raise CleanSetError(
            f"expected image files (PNG, JPEG, ...) in {root}, found none: add some images of each class"
        )
    images: list[NDArray[np.float32]] = []
    num_values = 0
    for file in files:
        images.append(_read_image(file, limits, num_values))
        num_values += images[-1].size
    grey = sum(len(image) == 1 for image in images)
    if grey in (0, len(images)):
        return images, ()
    coloured = [np.repeat(image, 3, axis=0) if len(image) == 1 else image for image in images]
    return coloured, (f"{grey} of {len(images)} images are grey and were read as colour images",)


def _read_image(path: Path, limits: ReadLimits, num_values: int) -> NDArray[np.float32]:
    """One image [C, H, W] in [0, 1], after `num_values` others were read."""
    try:
        with warnings.catch_warnings():
            # Pillow's own warnings about size and damage would let the image through.
            warnings.simplefilter("error")
            with Image.open(path, formats=_FORMATS) as image:
                _check_header(image, path, limits, num_values)
                return _decode(image, path)
    except CleanSetError:
        raise
    except UnidentifiedImageError as error:
        raise CleanSetError(
            f"expected an image in {_shown(path)}, found a damaged or other file: remove or replace it"
        ) from error
    except Exception as error:  # decoders raise whatever damaged bytes lead them to
        raise CleanSetError(
            f"expected a readable image in {_shown(path)}, found a problem ({error}): remove or replace it"
        ) from error


def _check_header(image: Image.Image, path: Path, limits: ReadLimits, num_values: int) -> None:
    """Refuse by what the header declares, before any pixel is decoded."""
    width, height = image.size
    if width * height > limits.image_pixels:
        raise CleanSetError(
            f"expected at most {limits.image_pixels} pixels in an image, found {width} x {height} in {_shown(path)}: "
            "make it smaller or remove it"
        )
    limits.check_total(num_values + 3 * width * height, _shown(path))
    if getattr(image, "n_frames", 1) > 1:
        raise CleanSetError(f"expected one picture in {_shown(path)}, found {image.n_frames}: save one of them")  # type: ignore[attr-defined]


def _decode(image: Image.Image, path: Path) -> NDArray[np.float32]:
    if image.mode == "I;16" and image.format == "PNG":  # PNG defines white as 65535; TIFF leaves it open
        return (np.asarray(image, np.float32) / np.float32(65535))[np.newaxis]
    plain = _without_alpha(image, path)
    if plain.mode not in _CONVERSIONS:
        raise CleanSetError(
            f"expected a grey or colour image of 8 bits in {_shown(path)}, found mode {plain.mode}: convert it to RGB"
        )
    pixels = np.asarray(plain.convert(_CONVERSIONS[plain.mode]), np.float32) / np.float32(255)
    return pixels[np.newaxis] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _without_alpha(image: Image.Image, path: Path) -> Image.Image:
    """The same image without an alpha channel that hides nothing."""
    if "transparency" not in image.info and image.mode not in _WITH_ALPHA:
        return image
    with_alpha = image.convert("RGBA")
    lowest, _ = with_alpha.getchannel("A").getextrema()
    if lowest != 255:
        raise CleanSetError(
            f"expected an image without transparency, found transparent pixels in {_shown(path)}: "
            "flatten it onto the background that the model was trained with"
        )
    return with_alpha.convert(_WITH_ALPHA.get(image.mode, "L" if image.mode in ("1", "L") else "RGB"))


def _shown(path: Path) -> str:
    """File name with its folder: enough to find it, without the machine's paths."""
    return f"{path.parent.name}/{path.name}"
