"""Clean images from an .npz archive. Sizes are checked in the headers first; nothing is ever unpickled."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from backscan.converters.intake.pointers import ADVICE, POINTER_BYTES, is_pointer
from backscan.scanner.errors import CleanSetError
from backscan.scanner.images.limits import ReadLimits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

# Rounding of averages or of a division by 255 may leave [0, 1] by this much.
_ROUNDING = 1e-5
LARGEST_LABEL = 1_000_000
_PART_VALUES = 1 << 22
"""Numbers that are read and converted at a time, so that no archive is held twice."""
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(slots=True)
class Archive:
    """`x` [N, H, W, C] or [N, H, W], uint8 or float in [0, 1], and perhaps `y` [N], read part by part.

    Sizes are checked in the headers before the first part is read.
    """

    path: Path
    """The file."""
    limits: ReadLimits
    """Bounds on what is read."""
    num_images: int = field(init=False, default=0)
    """Images N."""
    labels: NDArray[np.int64] | None = field(init=False, default=None)
    """Class numbers [N], None if there is no `y`."""
    warnings: tuple[str, ...] = field(init=False, default=())
    """What a reader of the report should know, complete when all parts were read."""

    def parts(self) -> Iterator[NDArray[np.float32]]:
        """The images [n, C, H, W] in [0, 1], some at a time, in their order.

        Raises:
            CleanSetError: the file is no such archive, or its arrays are not as described.
        """
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield from self._parts(archive)
        except CleanSetError:
            raise
        except PermissionError as error:
            raise CleanSetError(
                f"expected a readable file at {self.path}, found no permission: change its access"
            ) from error
        except zipfile.BadZipFile as error:
            raise _no_archive(self.path, error) from error
        except Exception as error:  # zipfile, zlib and numpy raise whatever damaged bytes lead them to
            raise _damaged(self.path, error) from error

    def _parts(self, archive: zipfile.ZipFile) -> Iterator[NDArray[np.float32]]:
        members, where = set(archive.namelist()), self.path.name
        if "x.npy" not in members:
            found = ", ".join(sorted(name.removesuffix(".npy") for name in members)[:5]) or "nothing"
            raise CleanSetError(f"expected an array `x` of images in {where}, found {found}: name the images x")
        shape, _, dtype = _read_header(archive, "x", where)
        checked_images(shape, dtype, self.limits, where)
        self.num_images = shape[0]
        self.labels = _read_labels(archive, shape[0], where) if "y.npy" in members else None
        first, largest = 0, 0
        for pixels in _read_rows(archive, "x", where):
            yield _unit_pixels(pixels, first, where)
            first += len(pixels)
            largest = max(largest, int(pixels.max())) if dtype == np.uint8 else 255
        if largest <= 1:
            self.warnings = (_dark(where),)


def _no_archive(path: Path, error: Exception) -> CleanSetError:
    with path.open("rb") as file:
        if is_pointer(file.read(POINTER_BYTES + 1)):
            return CleanSetError(f"expected an .npz archive at {path.name}, {ADVICE}")
    return _damaged(path, error)


def _damaged(path: Path, error: Exception) -> CleanSetError:
    return CleanSetError(
        f"expected an .npz archive, found a damaged or other file in {path.name} ({_first_line(error)}): write it "
        "again with numpy.savez(path, x=images, y=labels)"
    )


def _first_line(error: Exception) -> str:
    """What happened; numpy goes on with the advice to allow pickles."""
    return str(error).partition("\n")[0]


def _read_header(archive: zipfile.ZipFile, name: str, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Declared shape, whether the first axis is the innermost, and type of a member; reads a few hundred bytes."""
    with archive.open(f"{name}.npy") as stream:
        return _header(stream, name, where)


def _header(stream: IO[bytes], name: str, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version not in _HEADER_READERS:
        raise ValueError(f"array format {version} of `{name}` is not known")
    shape, by_columns, dtype = _HEADER_READERS[version](stream)
    if dtype.hasobject:
        raise CleanSetError(
            f"expected numbers in `{name}`, found Python objects in {where}, which are never unpickled: "
            "save a plain uint8, integer or float array"
        )
    return shape, by_columns, dtype


def _read_rows(archive: zipfile.ZipFile, name: str, where: str) -> Iterator[NDArray[Any]]:
    """Entries of the first axis, some at a time."""
    with archive.open(f"{name}.npy") as stream:
        shape, by_columns, dtype = _header(stream, name, where)
        many = max(1, _PART_VALUES // math.prod(shape[1:]))
        whole = _read_array(archive, name) if by_columns else None
        for first in range(0, shape[0], many):
            count = min(many, shape[0] - first)
            wanted = count * math.prod(shape[1:]) * dtype.itemsize
            if whole is not None:
                yield whole[first : first + count]
                continue
            data = stream.read(wanted)
            if len(data) < wanted:
                raise ValueError(f"`{name}` ends before its last number")
            yield np.frombuffer(data, dtype).reshape(count, *shape[1:])
        stream.read(1)  # at the end of a member its checksum is compared


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def checked_images(shape: tuple[int, ...], dtype: np.dtype[Any], limits: ReadLimits, where: str) -> None:
    """Refuse images by their shape and type, which a header alone tells.

    Args:
        shape: Shape of all images.
        dtype: Type of their pixels.
        limits: Bounds on how much it may be.
        where: File or the like, for messages.

    Raises:
        CleanSetError: no [N, H, W, C] or [N, H, W] of bytes or floats, or too much.
    """
    if dtype != np.uint8 and not np.issubdtype(dtype, np.floating):
        raise CleanSetError(
            f"expected `x` of type uint8, or float in [0, 1], found {dtype} in {where}: convert it, for example "
            "with x.astype('uint8')"
        )
    if len(shape) not in (3, 4) or 0 in shape[1:]:
        raise CleanSetError(
            f"expected `x` of shape [N, H, W, C] or [N, H, W], found {list(shape)} in {where}: reshape it"
        )
    if shape[0] == 0:
        raise CleanSetError(f"expected images in `x`, found none in {where}: add some of each class")
    if len(shape) == 4 and shape[3] not in (1, 3, 4):
        hint = "move the channels last with x.transpose(0, 2, 3, 1)" if shape[1] in (1, 3, 4) else "reshape it"
        raise CleanSetError(
            f"expected 1, 3 or 4 channels in the last axis of `x`, found {shape[3]} (shape {list(shape)}) in {where}: "
            f"{hint}"
        )
    limits.check_total(math.prod(shape), where)
    limits.check_count(shape[0], where)


def unit_pixels(pixels: NDArray[Any], where: str, *, warns: bool = True) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Images [N, C, H, W] in [0, 1] from bytes or floats [N, H, W(, C)], and warnings about them.

    Args:
        pixels: Images as `checked_images` lets them through.
        where: File or the like, for messages.
        warns: Whether bytes that look like floats are told of.

    Raises:
        CleanSetError: floats outside [0, 1], or that are no numbers.
    """
    seems_dark = warns and pixels.dtype == np.uint8 and pixels.max() <= 1
    return _unit_pixels(pixels, 0, where), (_dark(where),) if seems_dark else ()


def _dark(where: str) -> str:
    return f"all bytes of `x` in {where} are 0 or 1 and were read as nearly black: were floats meant?"


def _unit_pixels(pixels: NDArray[Any], first: int, where: str) -> NDArray[np.float32]:
    """Images [N, C, H, W] in [0, 1] from bytes or floats [N, H, W(, C)], which begin with the image of a number."""
    if pixels.dtype == np.uint8:
        unit = pixels.astype(np.float32) / np.float32(255)
    else:
        _check_floats(pixels, first, where)
        unit = np.clip(pixels.astype(np.float32), 0.0, 1.0)
    channels_first = unit[:, np.newaxis] if unit.ndim == 3 else unit.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(channels_first)


def _check_floats(pixels: NDArray[Any], first: int, where: str) -> None:
    finite = np.isfinite(pixels).all(axis=tuple(range(1, pixels.ndim)))
    if not finite.all():
        raise CleanSetError(
            f"expected finite pixels, found NaN or infinity in image {first + int(np.argmin(finite))} of `x` in "
            f"{where}: remove or repair it"
        )
    low, high = float(pixels.min()), float(pixels.max())
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise CleanSetError(
            f"expected float pixels in [0, 1], found {low:g} to {high:g} in `x` of {where}: divide by 255, or undo "
            "the normalisation (it belongs to --mean, --std and --range)"
        )


def _read_labels(archive: zipfile.ZipFile, num_images: int, where: str) -> NDArray[np.int64]:
    shape, _, dtype = _read_header(archive, "y", where)
    _check_labels(shape, dtype, num_images, where)
    return _class_numbers(_read_array(archive, "y").reshape(-1), where)


def checked_labels(labels: NDArray[Any], num_images: int, where: str) -> NDArray[np.int64]:
    """Class numbers [N] from an array of them.

    Raises:
        CleanSetError: not one whole number from 0 for each image.
    """
    _check_labels(labels.shape, labels.dtype, num_images, where)
    return _class_numbers(labels.reshape(-1), where)


def _check_labels(shape: tuple[int, ...], dtype: np.dtype[Any], num_images: int, where: str) -> None:
    if shape not in ((num_images,), (num_images, 1)):
        raise CleanSetError(
            f"expected one label for each of {num_images} images, found `y` of shape {list(shape)} in {where}: "
            "save class numbers of shape [N]"
        )
    if not np.issubdtype(dtype, np.integer) and not np.issubdtype(dtype, np.floating):
        raise CleanSetError(f"expected class numbers in `y`, found type {dtype} in {where}: save whole numbers from 0")


def _class_numbers(labels: NDArray[Any], where: str) -> NDArray[np.int64]:
    """Whole numbers from 0, whatever numeric type they were saved in."""
    wrong = ~((labels >= 0) & (labels <= LARGEST_LABEL))  # NaN is wrong too
    if np.issubdtype(labels.dtype, np.floating):
        wrong |= labels != np.floor(labels)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise CleanSetError(
            f"expected class numbers from 0, found {labels[first]} for image {first} in `y` of {where}: correct `y`, "
            "or leave it out to use the model's own decisions"
        )
    return labels.astype(np.int64)
