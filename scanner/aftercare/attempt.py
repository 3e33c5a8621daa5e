"""The files of an attempt: written into a folder of their own, and put in place only once they are believed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backscan.scanner.errors import NoVerdictError, UserError

if TYPE_CHECKING:
    from backscan.converters import Artifact
    from backscan.scanner.process.protocol import Repaired


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a method made of a file."""

    before: Artifact
    """The file."""
    answer: Repaired
    """What became of it, as the process that holds the model says: nothing of it is believed before it is measured."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Nodes that were changed, added or removed."""
        return self.answer.nodes


def check_places(model: Path, out: Path) -> None:
    """Refuse to write where the model lies, or where nothing can be written, before any work is done.

    Raises:
        UserError: the place cannot be used.
    """
    if out.suffix != ".onnx":
        raise UserError(f"expected --out to end in .onnx, found {out.name!r}")
    if not out.parent.is_dir() or out.is_dir():
        raise UserError(f"expected --out to be a file in a folder that exists, found {out}: make the folder first")
    if out.exists() and model.exists() and out.samefile(model):
        raise UserError(f"expected --out to be another file than the model, found {out}: name a new file")


def check_spared(read: Sequence[Path | None], files: Sequence[Path]) -> None:
    """Refuse to write over what is read.

    Args:
        read: What is read; None is nothing.
        files: What is written.

    Raises:
        UserError: one of them is the other.
    """
    kept = [each for each in read if each and each.exists()]
    for file in files:
        if file.exists() and any(map(file.samefile, kept)):
            raise UserError(f"expected a place of its own for what is written, found {file.name}, which is read too")


@contextmanager
def written(attempt: Attempt, out: Path) -> Iterator[Path]:
    """The attempt in a folder of its own beside its destination, which is gone afterwards unless it was kept.

    Raises:
        UserError: it cannot be written there.
        NoVerdictError: the process that made it answers with names of files that it was not asked for.
    """
    allowed = {f"{out.name}.data"} | {f"{out.name}.data.{index}" for index in range(1, 1000)}
    if not attempt.answer.external.keys() <= allowed:
        raise NoVerdictError("expected external data under the names that were asked for, found others: do not use it")
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{out.stem}.", dir=out.parent))
    except OSError as error:
        raise UserError(f"expected a folder to write {out.name} to, found: {error.strerror}; name another") from error
    try:
        for name, data in {out.name: attempt.answer.data, **attempt.answer.external}.items():
            (folder / name).write_bytes(data)
        yield folder / out.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def keep(place: Path, out: Path, *, believed: bool) -> str:
    """Move the files of an attempt: to their destination, or into `<out>.attempt`; gives the name of where."""
    if believed:
        for file in sorted(place.parent.iterdir(), key=lambda each: each == place):  # the model itself last
            os.replace(file, out.parent / file.name)
        return out.name
    beside = out.with_name(f"{out.stem}.attempt")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    for file in list(place.parent.iterdir()):
        os.replace(file, beside / file.name)
    return f"{beside.name}/{out.name}"
