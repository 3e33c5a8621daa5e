"""The files of an attempt: written into a folder of their own, and put in place only once they are believed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backscan.scanner.errors import NoVerdictError, UserError
from backscan.scanner.pipeline import admission
from backscan.scanner.process.parent import open_process

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


def check_attempt(read: Sequence[Path | None], out: Path) -> None:
    """Refuse to keep an attempt where something lies that is read, or where no folder can be, before any work is done.

    Args:
        read: What is read; None is nothing.
        out: Where the file goes if it is believed.

    Raises:
        UserError: the place cannot be used.
    """
    beside = _beside(out)
    if (os.path.lexists(beside) and not beside.is_dir()) or (beside / out.name).is_dir():
        raise UserError(
            f"expected {beside} to be a folder for a file {out.name} that is not believed, found something else: move "
            "it, or name another --out"
        )
    for path in read:
        if path is not None and beside.is_dir() and _lies_in(path, beside):
            raise UserError(
                f"expected nothing that is read in {beside}, where what is not believed is kept, found {path.name}: "
                "move it, or name another --out"
            )


def check_external(model: Path, out: Path, *, sandbox: bool) -> None:
    """Refuse to write over external data of the model, before any work is done.

    Args:
        model: The ONNX file.
        out: Where the file goes.
        sandbox: Whether a limited child process reads which files it names.

    Raises:
        UserError: a file that may be written is one of them.
        NoVerdictError: it cannot be read which files they are.
    """
    there = [file for folder in (out.parent, _beside(out)) for file in _own_files(folder, out.name)]
    artifact = admission.read(model) if there else None
    if artifact is None or not artifact.data:
        return
    with open_process(sandbox=sandbox) as process:
        locations = process.audit(artifact).external_locations
    for beneath in filter(os.path.exists, map(model.parent.joinpath, locations)):
        for file in filter(beneath.samefile, filter(os.path.exists, there)):
            raise UserError(
                f"expected a place of its own for what is written, found {file.name}, which holds data of "
                f"{model.name}: name another --out"
            )


def _beside(out: Path) -> Path:
    """The folder of an attempt that is not believed."""
    return out.with_name(f"{out.stem}.attempt")


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether a path is in a folder, by its name or by what it links to."""
    places = {Path(os.path.abspath(path)).parent.resolve() / path.name, path.resolve()}
    return any(place.is_relative_to(folder.resolve()) for place in places)


def _own_files(folder: Path, name: str) -> list[Path]:
    """What lies in a folder under the names of a written file and its external data; no folders."""
    own = re.compile(re.escape(name) + r"(\.data(\.\d+)?)?", re.ASCII)
    if not folder.is_dir():
        return []
    return [each for each in sorted(folder.iterdir()) if own.fullmatch(each.name) and not each.is_dir()]


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
    """Move the files of an attempt: to their destination, or into `<stem>.attempt`; gives the name of where.

    Of what lies there only an earlier attempt of the same name goes.

    Raises:
        UserError: they cannot be moved there.
    """
    to = out.parent if believed else _beside(out)
    try:
        if not believed:
            to.mkdir(exist_ok=True)
            for file in _own_files(to, out.name):
                file.unlink()
        for file in sorted(place.parent.iterdir(), key=lambda each: each == place):  # the model itself last
            os.replace(file, to / file.name)
    except OSError as error:
        raise UserError(f"expected a folder to move {out.name} to, found: {error.strerror}; name another") from error
    return out.name if believed else f"{to.name}/{out.name}"
