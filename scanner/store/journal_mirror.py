"""A journal that is written on one machine and kept on another: what is new in it, and the copy that takes it.

A copy is a journal like any other. What arrives twice, late or not at all does no harm: lines carry their digests, and
a chunk of which a line is missing is searched again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from backscan.scanner.errors import OptionError
from backscan.scanner.store.files import read_bytes
from backscan.scanner.store.journal_files import (
    MAX_PATTERN_BYTES,
    lock,
    refuse_odd_files,
    replace_file,
    told_if_unwritable,
)

_HEADER, _LINES = "header.json", "pairs.jsonl"
# Files of a journal, perhaps in the folder of one of several outputs: nothing else is read or written.
_KNOWN = re.compile(rf"(?:[0-9a-f]{{8}}/)?(?:{_HEADER}|{_LINES}|patterns/[A-Za-z0-9_=-]+/\d+-\d+\.npy)")
_MAX_BYTES = 1 << 34
# Lines after which something is never searched again: a finished chunk, finished estimates. Pairs alone may be.
_LASTING = (b'"kind": "chunk"', b'"kind": "looks"')


@dataclass(frozen=True, slots=True)
class Change:
    """What is new in one file of a journal."""

    path: str
    """The file, relative to the journal."""
    data: bytes
    """Whole lines that it has more; of other files all that it holds."""

    @property
    def lasts(self) -> bool:
        """Whether a scan that goes on from here has less to do."""
        return self.path.endswith(_LINES) and any(mark in self.data for mark in _LASTING)


class JournalTail:
    """The new part of a journal that a scan in this process is writing."""

    def __init__(self, folder: Path) -> None:
        """Count what is there already as known."""
        self._folder = folder
        self._seen: dict[str, tuple[int, int]] = {}
        self.changes()

    def changes(self) -> list[Change]:
        """What is new since the last call, a pattern before the line that names it."""
        lines = [change for path in self._known() if path.name == _LINES for change in self._more(path)]
        others = [change for path in self._known() if path.name != _LINES for change in self._replaced(path)]
        return [*others, *lines]

    def _known(self) -> list[Path]:
        paths = (path for path in self._folder.rglob("*") if path.is_file())
        return sorted(path for path in paths if _KNOWN.fullmatch(self._name(path)))

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def _more(self, path: Path) -> list[Change]:
        name = self._name(path)
        known, _ = self._seen.get(name, (0, 0))
        with path.open("rb") as file:
            file.seek(known)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._seen[name] = known + len(whole), 0
        return [Change(name, whole)] if whole else []

    def _replaced(self, path: Path) -> list[Change]:
        name, status = self._name(path), path.stat()
        state = status.st_size, status.st_mtime_ns
        if self._seen.get(name) == state:
            return []
        self._seen[name] = state
        return [Change(name, path.read_bytes())]


class JournalMirror:
    """The copy: a folder that takes what is new elsewhere, and gives all of it to whoever goes on."""

    def __init__(self, folder: Path, *, resume: bool) -> None:
        """Begin a copy, or take up a journal that is there.

        Raises:
            OptionError: There is a journal and `resume` is not set, or another scan is using it.
            UserError: The folder cannot be written, or holds what no journal has.
        """
        refuse_odd_files(folder)
        self._folder = folder
        self._lines: dict[str, FileIO] = {}
        with told_if_unwritable(folder):
            folder.mkdir(parents=True, exist_ok=True)
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob(_HEADER))
        if names and not resume:
            raise OptionError(
                f"expected no journal in {folder}, found one: pass --resume to continue it or another folder"
            )
        for name in filter(_KNOWN.fullmatch, names):
            self._open(name.replace(_HEADER, _LINES))

    def content(self) -> Mapping[str, bytes]:
        """Everything in it, by path."""
        names = (path.relative_to(self._folder).as_posix() for path in sorted(self._folder.rglob("*")))
        with told_if_unwritable(self._folder):
            return {
                name: read_bytes(self._folder / name, max_bytes=_MAX_BYTES) for name in names if _KNOWN.fullmatch(name)
            }

    def take(self, changes: Iterable[Change]) -> None:
        """Keep what is new, on the disk before the next step.

        Raises:
            UserError: The disk is full or gone.
        """
        for change in changes:
            if not _KNOWN.fullmatch(change.path):
                continue
            with told_if_unwritable(self._folder):
                (self._folder / change.path).parent.mkdir(parents=True, exist_ok=True)
                if change.path.endswith(_LINES):
                    self._append(change)
                elif len(change.data) <= MAX_PATTERN_BYTES:
                    replace_file(self._folder / change.path, change.data)

    def close(self) -> None:
        """Let another scan use the folder."""
        for lines in self._lines.values():
            lines.close()
        self._lines.clear()

    def _append(self, change: Change) -> None:
        lines = self._lines.get(change.path) or self._open(change.path)
        left = memoryview(change.data)
        while left:
            left = left[lines.write(left) :]
        os.fsync(lines.fileno())

    def _open(self, name: str) -> FileIO:
        lines = (self._folder / name).open("a+b", buffering=0)
        try:
            lock(lines, self._folder)
        except BaseException:
            lines.close()
            raise
        self._lines[name] = lines
        return lines


def unpack(folder: Path, content: Mapping[str, bytes]) -> None:
    """Lay a journal out in an empty folder."""
    for name, data in content.items():
        if _KNOWN.fullmatch(name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
