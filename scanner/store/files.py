"""Text files that somebody else may have written: regular files of a bounded size, and nothing that never ends."""

from __future__ import annotations

import os
import stat
from pathlib import Path

MAX_BYTES = 1 << 30
"""Size of the largest text: a report with its patterns."""


def read_text(path: Path, *, max_bytes: int = MAX_BYTES) -> str:
    """The text of a regular file.

    Args:
        path: The file.
        max_bytes: Size from which it is refused, in bytes.

    Raises:
        OSError: It cannot be read, is no regular file (a pipe or device may never end), or is too large.
        UnicodeDecodeError: It is no text.
    """
    return read_bytes(path, max_bytes=max_bytes).decode("utf-8")


def why_unreadable(error: OSError | UnicodeDecodeError) -> str:
    """What `read_text` found instead of a text, without Python's words for it."""
    if isinstance(error, UnicodeDecodeError):
        return "a file that is no text"
    return (error.strerror or str(error)).lower() if error.errno else str(error)


def read_bytes(path: Path, *, max_bytes: int) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: As for `read_text`.
    """
    with open(path, "rb", opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path.name} is no regular file")
        if status.st_size > max_bytes:
            raise OSError(f"{path.name} has {status.st_size:,} bytes, more than {max_bytes:,}")
        return file.read(status.st_size)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a named pipe would block the open itself
