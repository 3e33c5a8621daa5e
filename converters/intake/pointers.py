"""Git LFS pointers: a few lines of text that stand where a large file belongs."""

from __future__ import annotations

_BEGIN = b"version https://git-lfs.github.com/spec/"

POINTER_BYTES = 1024
"""A pointer is never longer."""
ADVICE = "found a Git LFS pointer in its place: run `git lfs pull` to get the file itself"
"""What a message goes on with behind what was expected."""


def is_pointer(data: bytes) -> bool:
    """Whether the bytes of a file, or its first `POINTER_BYTES + 1`, are a pointer to it."""
    return len(data) <= POINTER_BYTES and data.startswith(_BEGIN)
