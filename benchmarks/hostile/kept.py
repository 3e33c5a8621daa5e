"""What a scan keeps and takes up again, made or changed by somebody else: journals, caches, reports.

One honest scan for each process is the base; every row changes a copy of what that left behind.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from typer.testing import CliRunner

from backscan.scanner.cli.app import app
from benchmarks.hostile.inputs import ANY, USER, HostileInput, Prepare, good_folder

OPTIONS = (
    "--threads", "1", "--format", "json", "--preprocess", "none", "--images-per-class", "8", "--max-steps", "20",
    "--time-limit", "30", "--detector", "pairwise", "--detector", "features",
)  # fmt: skip
"""Options of every scan of the table."""
CACHE = "cache"
"""Folder of the user's caches in the folder of a row."""

Change = Callable[[Path], object]


@functools.cache
def _honest(seed: int) -> Path:
    """What an honest scan leaves: `journal`, `report.json`, and a cache; made once, gone with the process."""
    kept = tempfile.TemporaryDirectory(prefix="hostile-kept-")
    _KEPT.append(kept)
    folder = Path(kept.name)
    arguments = good_folder(folder, np.random.default_rng(seed))
    keeping = ["--journal", str(folder / "journal"), "--cache", "--report", str(folder / "report.json")]
    run = CliRunner().invoke(
        app, ["--quiet", "check", *OPTIONS, *arguments, *keeping], env={"XDG_CACHE_HOME": str(folder / CACHE)}
    )
    if not (folder / "report.json").exists():
        raise RuntimeError(f"expected an honest scan to leave a report, found exit code {run.exit_code}: {run.stderr}")
    return folder


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def _copied(folder: Path, rng: Generator) -> list[str]:
    """A folder with what an honest scan left."""
    seed = int(rng.bit_generator.seed_seq.entropy)  # type: ignore[attr-defined]
    shutil.copytree(_honest(seed), folder, dirs_exist_ok=True)
    return [str(folder / "model.onnx"), "--data", str(folder / "images.npz")]


def _resumed(change: Change) -> Prepare:
    """The scan continued from a journal to which something was done."""

    def prepare(folder: Path, rng: Generator) -> list[str]:
        arguments = _copied(folder, rng)
        change(folder / "journal")
        return [*arguments, "--journal", str(folder / "journal"), "--resume"]

    return prepare


def _cached(change: Change) -> Prepare:
    """The scan repeated with a cache, to whose only entry something was done."""

    def prepare(folder: Path, rng: Generator) -> list[str]:
        arguments = _copied(folder, rng)
        (entry,) = (folder / CACHE).rglob("*.json")
        change(entry)
        return [*arguments, "--cache"]

    return prepare


def _replayed(change: Callable[[dict[str, Any]], object]) -> Prepare:
    """The report's pattern replayed after something in the report was changed."""

    def prepare(folder: Path, rng: Generator) -> list[str]:
        arguments = _copied(folder, rng)
        document = json.loads((folder / "report.json").read_text())
        change(document)
        (folder / "report.json").write_text(json.dumps(document))
        return [str(folder / "report.json"), *arguments]

    return prepare


def _lines(write: Callable[[list[bytes]], bytes]) -> Change:
    """The lines of a journal written anew."""

    def change(journal: Path) -> None:
        path = journal / "pairs.jsonl"
        path.write_bytes(write(path.read_bytes().splitlines()))

    return change


def _resealed(line: bytes, **values: object) -> bytes:
    """A line of a journal with other values in its result, and the digest that belongs to it."""
    from backscan.scanner.store.journal import _seal

    record = json.loads(line)
    record.pop("digest")
    if isinstance(record.get("result"), dict):
        record["result"] |= values
    return _seal(record)


def _piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _grown(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 34)


def _linked(path: Path) -> None:
    secret = path.with_name("secret")
    secret.write_text("not to be changed")
    path.unlink()
    path.symlink_to(secret)


def _terabyte(journal: Path) -> None:
    """Patterns that declare a terabyte in a header of a hundred bytes."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000, 1000), }".ljust(117) + b"\n"
    for path in (journal / "patterns").rglob("*.npy"):
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


def _with_header(**values: object) -> Change:
    def change(journal: Path) -> None:
        path = journal / "header.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def _pattern(shape: list[int], data: bytes, **values: object) -> Callable[[dict[str, Any]], object]:
    """The pattern of a report replaced, by an array of a shape with such bytes."""

    def change(document: dict[str, Any]) -> None:
        for pattern in document["patterns"]:
            pattern["values"] = {"shape": shape, "data": base64.b64encode(data).decode()}
            pattern.update(values)

    return change


def _filled(value: float) -> Callable[[dict[str, Any]], object]:
    return _pattern([1, 8, 8], np.full(64, value, np.float32).tobytes())


def _with(**values: object) -> Callable[[dict[str, Any]], object]:
    return lambda document: document.update(values)


RESUMED = [
    HostileInput("journal as it was", ANY - USER, _resumed(lambda _: None)),
    HostileInput("journal of noise", ANY - USER, _resumed(_lines(lambda _: os.urandom(1 << 16)))),
    HostileInput("journal nested 100000 deep", ANY - USER, _resumed(_lines(lambda _: b"[" * 100_000 + b"\n"))),
    HostileInput("journal of a line of 64 megabytes", ANY - USER, _resumed(_lines(lambda _: bytes(1 << 26) + b"\n"))),
    HostileInput("journal of 300000 empty records", ANY - USER, _resumed(_lines(lambda _: b"{}\n" * 300_000))),
    HostileInput("journal of 16 gigabytes", ANY - USER, _resumed(lambda j: _grown(j / "pairs.jsonl"))),
    HostileInput("journal with sizes below zero", ANY - USER, _resumed(_lines(
        lambda lines: b"\n".join(_resealed(line, size=-1.0) for line in lines) + b"\n"))),
    HostileInput("journal with sizes of 1e308", ANY - USER, _resumed(_lines(
        lambda lines: b"\n".join(_resealed(line, size=1e308) for line in lines) + b"\n"))),
    HostileInput("journal with classes that are not there", ANY - USER, _resumed(_lines(
        lambda lines: b"\n".join(_resealed(line, source=10**9) for line in lines) + b"\n"))),
    HostileInput("journal is a named pipe", USER, _resumed(lambda j: _piped(j / "pairs.jsonl"))),
    HostileInput("journal is a link", USER, _resumed(lambda j: _linked(j / "pairs.jsonl"))),
    HostileInput("journal with patterns of a terabyte", ANY - USER, _resumed(_terabyte)),
    HostileInput("journal of another model", USER, _resumed(_with_header(model="0" * 64))),
    HostileInput("journal whose header is nested", USER, _resumed(
        lambda j: (j / "header.json").write_text("[" * 100_000))),
    HostileInput("journal whose header is endless", USER, _resumed(lambda j: _grown(j / "header.json"))),
]  # fmt: skip

CACHED = [
    HostileInput("cache as it was", ANY - USER, _cached(lambda _: None)),
    HostileInput("cache entry is a named pipe", ANY - USER, _cached(_piped)),
    HostileInput("cache entry of 16 gigabytes", ANY - USER, _cached(_grown)),
    HostileInput("cache entry nested 100000 deep", ANY - USER, _cached(lambda e: e.write_text("[" * 100_000))),
    HostileInput("cache entry is no report", ANY - USER, _cached(lambda e: e.write_text('{"schema_version": "1.1"}'))),
    HostileInput("cache entry of noise", ANY - USER, _cached(lambda e: e.write_bytes(os.urandom(10_000)))),
]

REPLAYED = [
    HostileInput(name, expected, _replayed(change), command="verify")
    for name, expected, change in (
        ("replay of the report as it was", ANY - USER, lambda _: None),
        ("replay of a pattern of NaN", USER, _filled(float("nan"))),
        ("replay of an infinite pattern", USER, _filled(float("inf"))),
        ("replay of a pattern of 1e38", ANY, _filled(1e38)),
        ("replay of a pattern of another shape", USER, _pattern([3, 99, 99], bytes(4 * 3 * 99 * 99))),
        ("replay of a pattern of 10^12 numbers", USER, _pattern([10**6, 10**6], bytes(256))),
        ("replay of a pattern of negative lengths", USER, _pattern([-1, -8, -8], bytes(256))),
        ("replay of a pattern without bytes", USER, _pattern([1, 8, 8], b"")),
        ("replay of a pattern at an odd tensor", ANY, _pattern([1, 8, 8], bytes(256), space="../../etc/passwd")),
        ("replay of a report without patterns", USER, _with(patterns=[])),
        ("replay of a report whose pairs are gone", ANY, _with(pairs=[])),
        ("replay of a report for 10^9 images a class", ANY, lambda d: d["config"].update(images_per_class=10**9)),
        ("replay of a report of another version", USER, _with(schema_version="99.0")),
    )
]
KEPT = [*RESUMED, *CACHED, *REPLAYED]
"""Rows of the table."""
