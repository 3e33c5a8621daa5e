"""The files of a journal: written whole or not at all, read as what somebody else may have put there."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.errors import OptionError, UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PATTERN_BYTES = 1 << 26
"""Size of the largest pattern: four times what a search may give."""
MAX_LINE_BYTES = 1 << 24
"""Length of the longest line: a chunk of some ten thousand pairs, or a search of a hundred thousand steps."""


def odd_file(folder: Path) -> Path | None:
    """Something in a folder that is neither a folder nor a file with one name; writing there may change another file.

    Raises:
        OSError: The folder cannot be read.
    """
    return next((path for path in folder.rglob("*") if not _is_plain(path)), None)


def _is_plain(path: Path) -> bool:
    if path.is_symlink():
        return False
    return path.is_dir() or (path.is_file() and path.stat().st_nlink == 1)


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in place whole: after a power cut there is the old one or the new one.

    Raises:
        OSError: The disk is full or gone.
    """
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def whole_lines(file: FileIO) -> Iterator[bytes]:
    """The lines of a file from its beginning; what follows the last of them is cut off.

    A line that is not whole, or longer than any record, is none.

    Raises:
        OSError: The file cannot be read.
    """
    file.seek(0)
    reader = io.BufferedReader(file)
    end = 0
    try:
        while (line := reader.readline(MAX_LINE_BYTES)).endswith(b"\n"):
            end += len(line)
            yield line
    finally:
        reader.detach()
    file.truncate(end)


def write_pattern(pattern: NDArray[np.float32]) -> bytes:
    """A pattern as the content of a `.npy` file."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(pattern), allow_pickle=False)
    return buffer.getvalue()


def read_pattern(data: bytes) -> NDArray[np.float32]:
    """The pattern that `write_pattern` wrote.

    Raises:
        ValueError: It is something else: other numbers, NaN among them, or more than are there.
    """
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("expected version 1.0 of the format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    # Told before anything is allocated: a header of a few bytes can declare a terabyte.
    if dtype != np.float32 or dtype.itemsize * _product(shape) != len(data) - stream.tell():
        raise ValueError(f"expected float32 numbers as the shape says, found {dtype} and the shape {shape}")
    stream.seek(0)
    pattern: NDArray[np.float32] = np.load(stream, allow_pickle=False)
    if not np.isfinite(pattern).all():
        raise ValueError("expected finite numbers")
    return pattern


def _product(shape: tuple[int, ...]) -> int:
    """Numbers that a shape holds; exact, where numpy's own product would wrap around."""
    return int(np.prod(np.array(shape, object)))


def refuse_odd_files(folder: Path) -> None:
    """Refuse a journal with a link, pipe or device in it: a journal can come from somebody else.

    Raises:
        UserError: Something in the folder is neither a folder nor a plain file with one name.
    """
    with told_if_unwritable(folder):
        odd = odd_file(folder)
    if odd is not None:
        raise UserError(
            f"expected plain files and folders in the journal {folder}, found {odd.name}, which is a link or a device: "
            "name another folder"
        )


def lock(lines: FileIO, folder: Path) -> None:
    """Keep other scans from a journal as long as its lines are open.

    Raises:
        OptionError: Another scan is writing it.
    """
    try:
        fcntl.flock(lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OptionError(
            f"another scan is writing the journal {folder}: wait for it or name another folder"
        ) from error


@contextlib.contextmanager
def told_if_unwritable(folder: Path) -> Iterator[None]:
    """Tell of a full disk or a folder without access as something that the user can mend."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write the journal in {folder} ({error.strerror}): make room or check the folder, then repeat the "
            "command with --resume"
        ) from error
