"""One picture from a file: its format, mode and size checked before any pixel is decoded."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from backscan.converters.intake.pointers import ADVICE, POINTER_BYTES, is_pointer
from backscan.scanner.errors import CleanSetError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from backscan.scanner.images.limits import ReadLimits

# Only these decoders ever see the bytes, whatever a file calls itself.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# Modes with one plain meaning in eight bits, and what they are read as.
_CONVERSIONS = {"1": "L", "L": "L", "RGB": "RGB", "P": "RGB", "YCbCr": "RGB", "CMYK": "RGB"}
_WITH_ALPHA = {"LA": "L", "PA": "RGB", "RGBA": "RGB"}


def read_picture(path: Path, limits: ReadLimits, num_values: int) -> NDArray[np.float32]:
    """One image [C, H, W] in [0, 1].

    Args:
        path: The file.
        limits: Bounds on what is read.
        num_values: Pixels times channels of the images that were read before.

    Raises:
        CleanSetError: the file is no single plain picture, or too large.
    """
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
        raise _no_image(path) from error
    except Exception as error:  # decoders raise whatever damaged bytes lead them to
        raise CleanSetError(
            f"expected a readable image in {_shown(path)}, found a problem ({error}): remove or replace it"
        ) from error


def _no_image(path: Path) -> CleanSetError:
    with path.open("rb") as file:
        if is_pointer(file.read(POINTER_BYTES + 1)):
            return CleanSetError(f"expected an image in {_shown(path)}, {ADVICE}")
    return CleanSetError(f"expected an image in {_shown(path)}, found a damaged or other file: remove or replace it")


def _check_header(image: Image.Image, path: Path, limits: ReadLimits, num_values: int) -> None:
    """Refuse by what the header declares, before any pixel is decoded."""
    width, height = image.size
    if width * height > limits.image_pixels:
        raise CleanSetError(
            f"expected at most {limits.image_pixels} pixels in an image, found {width} x {height} in {_shown(path)}: "
            "make it smaller or remove it"
        )
    limits.check_total(num_values + 3 * width * height, _shown(path))
    if _has_second(path):
        raise CleanSetError(f"expected one picture in {_shown(path)}, found several: save one of them")


def _has_second(path: Path) -> bool:
    """Whether a file holds a second picture.

    Even to ask for the attribute `n_frames` would walk all of them, in a TIFF in more than linear time.
    """
    with Image.open(path, formats=_FORMATS) as image:
        try:
            image.seek(1)
        except EOFError:
            return False
        return True


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
