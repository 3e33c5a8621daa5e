"""Finished pairs on disk, so that a scan that was killed continues where it was. HOUSE section 8.

A journal is a folder: `header.json` says what it belongs to, `pairs.jsonl` has a line for every finished pair and one
for every finished chunk of pairs, `patterns/` holds the patterns. Everything is flushed to the disk before the
next step, a pattern before the line that names it. Every line carries a digest of itself, so that a line that was cut
off, or damaged in any other way, is as if it had not been written. A chunk without its own line is searched again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from backscan.scanner.errors import JournalMismatchError, OptionError
from backscan.scanner.results import PairResult, PairStatus, is_possible
from backscan.scanner.store.files import read_bytes
from backscan.scanner.store.journal_files import (
    MAX_LINE_BYTES,
    MAX_PATTERN_BYTES,
    lock,
    read_pattern,
    refuse_odd_files,
    replace_file,
    told_if_unwritable,
    whole_lines,
    write_pattern,
)

if TYPE_CHECKING:
    from types import TracebackType

    from backscan.scanner.results import Pair

FORMAT = 2
# Characters of a header's value in a message.
_LONGEST_SHOWN = 40


class Journal:
    """What a scan has finished so far, in memory and in a folder.

    Sections keep apart what is searched more than once for the same pair: a detector, or a detector under one
    preprocessing. Within a section a chunk is known by its pairs.
    """

    def __init__(self, folder: Path, lines: FileIO, *, is_new: bool) -> None:
        """Not to be called: `Journal.open` is."""
        self.is_new = is_new
        self._folder = folder
        self._lines = lines
        self._chunks: dict[str, list[PairResult]] = {}
        self._written: dict[str, dict[Pair, PairResult]] = {}
        self._estimates: dict[str, list[float]] = {}

    @classmethod
    def open(cls, folder: Path, key: Mapping[str, object], *, resume: bool) -> Self:
        """Begin a journal, or continue one.

        Args:
            folder: Where it lies, or will lie.
            key: What decides the result of a pair, by names that a user understands: model, data, configuration.
            resume: Whether a journal that is there already is continued; where there is none, one is begun.

        Raises:
            JournalMismatchError: The journal belongs to another key; `field` names the first entry that differs.
            OptionError: There is a journal and `resume` is not set, or another scan is using it.
            UserError: The folder cannot be written.
        """
        refuse_odd_files(folder)
        with told_if_unwritable(folder):
            (folder / "patterns").mkdir(parents=True, exist_ok=True)
            # No buffer: what a full disk did not take would be written again, and fail again, on closing.
            lines = (folder / "pairs.jsonl").open("a+b", buffering=0)
        try:
            lock(lines, folder)
            is_new = _open_header(folder, {"format": FORMAT, **key}, resume=resume)
            journal = cls(folder, lines, is_new=is_new)
            journal._read()
        except BaseException:
            lines.close()
            raise
        return journal

    def chunk(self, section: str, pairs: Sequence[Pair]) -> list[PairResult] | None:
        """The results of a finished chunk, in the order of its pairs; None if it is not finished."""
        kept = {(result.source, result.target): result for result in self._chunks.get(_chunk_name(section, pairs), ())}
        return [kept[pair] for pair in pairs] if kept.keys() == set(pairs) else None

    def finished(self, section: str) -> dict[Pair, PairResult]:
        """The results of all finished chunks of a section, however it was divided, by pair."""
        own = (results for name, results in self._chunks.items() if name.rpartition("/")[0] == section)
        return {(result.source, result.target): result for results in own for result in results}

    def estimates(self, section: str, pairs: Sequence[Pair]) -> list[float] | None:
        """The first-order estimates of some pairs' sizes, in their order; None if they were not made."""
        sizes = self._estimates.get(_chunk_name(section, pairs), ())
        return list(sizes) if len(sizes) == len(pairs) else None

    def keep_estimates(self, section: str, pairs: Sequence[Pair], sizes: Sequence[float]) -> None:
        """Keep the first-order estimates of some pairs' sizes.

        Raises:
            UserError: The disk is full or gone.
        """
        name = _chunk_name(section, pairs)
        with told_if_unwritable(self._folder):
            self._append({"kind": "looks", "chunk": name, "sizes": list(sizes)})
        self._estimates[name] = list(sizes)

    def add(self, section: str, pairs: Sequence[Pair], result: PairResult) -> None:
        """Keep one finished pair of a chunk that is not finished yet.

        Raises:
            UserError: The disk is full or gone.
        """
        name = _chunk_name(section, pairs)
        with told_if_unwritable(self._folder):
            digest = self._keep_pattern(section, result)
            self._append(
                {"kind": "pair", "section": section, "chunk": name, "result": result.to_dict(), "pattern": digest}
            )
        self._written.setdefault(name, {})[result.source, result.target] = result

    def record(self, section: str, pairs: Sequence[Pair], results: Sequence[PairResult]) -> None:
        """Keep a finished chunk; pairs that were kept before are not written again.

        Raises:
            UserError: The disk is full or gone.
        """
        name = _chunk_name(section, pairs)
        for result in results:
            if (result.source, result.target) not in self._written.get(name, {}):
                self.add(section, pairs, result)
        with told_if_unwritable(self._folder):
            self._append({"kind": "chunk", "chunk": name, "pairs": [list(pair) for pair in pairs]})
        self._chunks[name] = list(results)

    def close(self) -> None:
        """Let another scan use the folder."""
        self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, record: Mapping[str, Any]) -> None:
        left = memoryview(_seal(record) + b"\n")
        while left:
            left = left[self._lines.write(left) :]
        os.fsync(self._lines.fileno())

    def _keep_pattern(self, section: str, result: PairResult) -> str | None:
        """Write the pattern, whole or not at all; return its digest for the line that names it."""
        if result.pattern is None:
            return None
        data = write_pattern(result.pattern)
        path = self._pattern_path(section, result.source, result.target)
        path.parent.mkdir(exist_ok=True)
        replace_file(path, data)
        return _digest(data)

    def _pattern_path(self, section: str, source: int, target: int) -> Path:
        return self._folder / "patterns" / re.sub(r"[^A-Za-z0-9_=-]", "_", section) / f"{source}-{target}.npy"

    def _read(self) -> None:
        """Take up what is there, and cut off what follows the last whole line."""
        for line in whole_lines(self._lines):
            record = _unseal(line)
            if record is not None:
                # A sealed line may still hold anything: a journal can come from somebody else.
                with contextlib.suppress(KeyError, TypeError, ValueError):
                    self._take(record)
        self._written.clear()  # a chunk that was not finished is searched again, and written again

    def _take(self, record: Mapping[str, Any]) -> None:
        if record["kind"] == "looks":
            sizes = [float(size) for size in record["sizes"]]
            if all(0.0 <= size < math.inf for size in sizes):  # whoever wrote them
                self._estimates[record["chunk"]] = sizes
            return
        kept = self._written.setdefault(record["chunk"], {})
        if record["kind"] == "chunk":
            pairs = [(source, target) for source, target in record["pairs"]]
            if all(pair in kept for pair in pairs):
                self._chunks[record["chunk"]] = [kept[pair] for pair in pairs]
            return
        result = self._restore(record)
        if result is not None:
            kept[result.source, result.target] = result

    def _restore(self, record: Mapping[str, Any]) -> PairResult | None:
        """The result of a line with its pattern, or None where that is damaged, or none that a search can give."""
        try:
            result = PairResult.from_dict(record["result"])
            if not is_possible(result) or result.status is PairStatus.NO_IMAGES or record["pattern"] is None:
                return None
            path = self._pattern_path(record["section"], result.source, result.target)
            data = read_bytes(path, max_bytes=MAX_PATTERN_BYTES)
            if _digest(data) != record["pattern"]:
                return None
            return replace(result, pattern=read_pattern(data))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _open_header(folder: Path, key: Mapping[str, object], *, resume: bool) -> bool:
    """Write the header of a new journal, or compare that of an old one; whether it is new."""
    path = folder / "header.json"
    if not path.exists():
        with told_if_unwritable(folder):
            replace_file(path, json.dumps(key, indent=1).encode() + b"\n")
        return True
    if not resume:
        raise OptionError(f"expected no journal in {folder}, found one: pass --resume to continue it or another folder")
    try:
        found = json.loads(read_bytes(path, max_bytes=MAX_LINE_BYTES))
        entries = {**found}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise JournalMismatchError(
            f"expected the header of a journal in {path}, found something else: name another folder", field="format"
        ) from error
    if entries.get("format") != key.get("format"):
        raise JournalMismatchError(
            f"expected a journal of this version of the scanner in {folder}, found one of another: name another folder",
            field="format",
        )
    for field in (*key, *(set(entries) - set(key))):
        if entries.get(field) != key.get(field):
            raise JournalMismatchError(
                f"expected a journal of this scan in {folder}, but its {field} differs (there "
                f"{_short(entries.get(field))}, here {_short(key.get(field))}): name another folder, or repeat the "
                "scan as it was begun",
                field=field,
            )
    return False


def _short(value: object) -> str:
    """A value of the header in a sentence: of a digest its beginning."""
    return json.dumps(value)[:_LONGEST_SHOWN].strip('"') if value is not None else "none"


def _chunk_name(section: str, pairs: Sequence[Pair]) -> str:
    text = json.dumps([list(pair) for pair in pairs])
    return f"{section}/{_digest(text.encode())[:16]}"


def _seal(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, allow_nan=False)
    return json.dumps({**record, "digest": _digest(text.encode())}).encode()


def _unseal(line: bytes) -> dict[str, Any] | None:
    """The record of a line, or None if it is not as it was written."""
    try:
        record: dict[str, Any] = json.loads(line)
        digest = record.pop("digest")
        return record if digest == _digest(json.dumps(record).encode()) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
