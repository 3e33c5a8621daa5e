"""One picture from a file: its format, mode and size checked before any pixel is decoded."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from backscan.converters.intake.pointers import ADVICE, POINTER_BYTES, is_pointer
from backscan.scanner.errors import CleanSetError
from backscan.scanner.images.passed_over import reads_avif, reads_heif

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.scanner.images.limits import ReadLimits

Source = Callable[[], Path | io.BytesIO]
"""Gives a file, or the bytes of one anew."""

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
    return _read(lambda: path, _shown(path), limits, num_values)


def read_picture_bytes(data: bytes, where: str, limits: ReadLimits, num_values: int) -> NDArray[np.float32]:
    """One image [C, H, W] in [0, 1] from the bytes of a file; arguments and errors as above, `where` for messages."""
    return _read(lambda: io.BytesIO(data), where, limits, num_values)


def _read(source: Source, where: str, limits: ReadLimits, num_values: int) -> NDArray[np.float32]:
    try:
        with warnings.catch_warnings():
            # Pillow's own warnings about size and damage would let the image through.
            warnings.simplefilter("error")
            with Image.open(source(), formats=_formats()) as image:
                _check_header(image, where, limits, num_values)
                if _has_second(source):
                    raise CleanSetError(f"expected one picture in {where}, found several: save one of them")
                return _decode(image, where)
    except CleanSetError:
        raise
    except UnidentifiedImageError as error:
        raise _no_image(source(), where) from error
    except Exception as error:  # decoders raise whatever damaged bytes lead them to
        raise CleanSetError(
            f"expected a readable image in {where}, found a problem ({error}): remove or replace it"
        ) from error


@cache
def _formats() -> tuple[str, ...]:
    """The decoders that there are: AVIF where pillow has it, HEIF where pillow-heif is installed."""
    if reads_heif():
        import pillow_heif

        pillow_heif.register_heif_opener()
    return (*_FORMATS, *(["AVIF"] if reads_avif() else []), *(["HEIF"] if reads_heif() else []))


def _no_image(source: Path | io.BytesIO, where: str) -> CleanSetError:
    with source if isinstance(source, io.BytesIO) else source.open("rb") as file:
        if is_pointer(file.read(POINTER_BYTES + 1)):
            return CleanSetError(f"expected an image in {where}, {ADVICE}")
    return CleanSetError(f"expected an image in {where}, found a damaged or other file: remove or replace it")


def _check_header(image: Image.Image, where: str, limits: ReadLimits, num_values: int) -> None:
    """Refuse by what the header declares, before any pixel is decoded."""
    width, height = image.size
    if width * height > limits.image_pixels:
        raise CleanSetError(
            f"expected at most {limits.image_pixels} pixels in an image, found {width} x {height} in {where}: "
            "make it smaller or remove it"
        )
    limits.check_total(num_values + 3 * width * height, where)


def _has_second(source: Source) -> bool:
    """Whether a file holds a second picture.

    Even to ask for the attribute `n_frames` would walk all of them, in a TIFF in more than linear time.
    """
    with Image.open(source(), formats=_formats()) as image:
        try:
            image.seek(1)
        except EOFError:
            return False
        return True


def _decode(image: Image.Image, where: str) -> NDArray[np.float32]:
    if image.mode == "I;16" and image.format == "PNG":  # PNG defines white as 65535; TIFF leaves it open
        return (np.asarray(image, np.float32) / np.float32(65535))[np.newaxis]
    plain = _without_alpha(image, where)
    if plain.mode not in _CONVERSIONS:
        raise CleanSetError(
            f"expected a grey or colour image of 8 bits in {where}, found mode {plain.mode}: convert it to RGB"
        )
    pixels = np.asarray(plain.convert(_CONVERSIONS[plain.mode]), np.float32) / np.float32(255)
    return pixels[np.newaxis] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _without_alpha(image: Image.Image, where: str) -> Image.Image:
    """The same image without an alpha channel that hides nothing."""
    if "transparency" not in image.info and image.mode not in _WITH_ALPHA:
        return image
    with_alpha = image.convert("RGBA")
    lowest, _ = with_alpha.getchannel("A").getextrema()
    if lowest != 255:
        raise CleanSetError(
            f"expected an image without transparency, found transparent pixels in {where}: "
            "flatten it onto the background that the model was trained with"
        )
    return with_alpha.convert(_WITH_ALPHA.get(image.mode, "L" if image.mode in ("1", "L") else "RGB"))


def _shown(path: Path) -> str:
    """File name with its folder: enough to find it, without the machine's paths."""
    return f"{path.parent.name}/{path.name}"
