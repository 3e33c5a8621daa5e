"""Stop scans at random moments, resume them, and compare the reports with the uninterrupted one.

    python -m benchmarks.kill_resume --count 12 --seed 0 [--progress FILE] [--out benchmarks/results]

Each scan is stopped five times in a row, and resumed each time, in one of these ways: SIGKILL to the whole process
group while the journal is written, or at any moment; a power cut, which also loses a part of the last record; or a disk
that is full. Then it runs to its end. The final report must equal that of a scan that was never stopped in everything
but timings. Every finished scan is appended to the file of `--progress`; a later run with the same file goes on there.
Exit code 1 if a report differs.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from benchmarks import command
from benchmarks.provenance import circumstances
from benchmarks.table import grid, page

_LONGEST_DELAY = 0.02
"""Seconds from the chosen record to the kill, so that it also falls between a pattern and its record."""
_ATTACKED = 1
"""Exit code of the scan, whose model is backdoored."""
_USER = 2


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan of the shipped backdoored model, with its journal and report in a folder of its own."""

    folder: Path
    """Where journal and report lie."""

    @property
    def command(self) -> list[str]:
        """The command, without `--resume`."""
        samples = Path(str(resources.files("backscan.scanner") / "samples"))
        model, data = samples / "digits_backdoored.onnx", samples / "digits_clean.npz"
        options = ["--data", str(data), "--images-per-class", "5", "--journal", "journal", "--report", "report.json"]
        return [sys.executable, "-m", "backscan.scanner", "--quiet", "check", str(model), *options]

    @property
    def journal(self) -> Path:
        """The journal's records, a line each."""
        return self.folder / "journal" / "pairs.jsonl"

    def start(self, *, resume: bool, file_bytes: int | None = None) -> subprocess.Popen[bytes]:
        """Start it in a process group of its own, where no file can grow beyond a size."""

        def limit() -> None:
            if file_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

        return subprocess.Popen(
            [*self.command, "--resume"] if resume else self.command,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=limit,
        )

    def size(self) -> int:
        """Bytes of the journal's records."""
        return self.journal.stat().st_size if self.journal.exists() else 0

    def records(self) -> int:
        """Whole records of the journal."""
        return self.journal.read_bytes().count(b"\n") if self.journal.exists() else 0

    def report(self) -> dict[str, Any]:
        """The report without what says when it was made."""
        document: dict[str, Any] = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        del document["timings"], document["finished"]
        return document


@dataclass(frozen=True, slots=True)
class Whole:
    """The uninterrupted scan that the others are compared with."""

    seconds: float
    """Its duration."""
    records: int
    """Records of its journal: steps, pairs and chunks."""
    size: int
    """Bytes of these records."""
    report: dict[str, Any]
    """What it reports."""


@dataclass(frozen=True, slots=True)
class Stop:
    """One end of a scan before its time."""

    way: str
    """How it was stopped: a key of `WAYS`."""
    seconds: float
    """When it was stopped, in seconds from its start."""
    kept: int
    """Whole records that its journal had then."""
    finished: bool
    """Whether the report was written already."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One scan that was stopped several times."""

    number: int
    """Its place in the series, which with the seed decides ways and moments."""
    stops: tuple[Stop, ...]
    """Its stops, in order."""
    differs: bool
    """Whether the final report differs from the uninterrupted one in more than timings."""


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # it may have ended by itself a moment before
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _while_writing(scan: Scan, whole: Whole, rng: Generator) -> None:
    """Kill a moment after the journal has grown to a size."""
    before, resume = scan.size(), scan.journal.exists()
    size, delay = before + rng.uniform(0, 0.4 * whole.size), float(rng.uniform(0, _LONGEST_DELAY))
    process = scan.start(resume=resume)
    while scan.size() <= size and process.poll() is None:
        time.sleep(0.0005)
    time.sleep(delay)
    _kill(process)


def _at_any_moment(scan: Scan, whole: Whole, rng: Generator) -> None:
    """Kill at a moment between the start and the usual end."""
    process = scan.start(resume=scan.journal.exists())
    try:
        process.communicate(timeout=float(rng.uniform(0, whole.seconds)))
    except subprocess.TimeoutExpired:
        _kill(process)


def _power_cut(scan: Scan, whole: Whole, rng: Generator) -> None:
    """Kill while writing, and lose a part of the last record."""
    _while_writing(scan, whole, rng)
    content = scan.journal.read_bytes()
    last = content[:-1].rfind(b"\n") + 1
    scan.journal.write_bytes(content[: int(rng.integers(last, len(content)))])


def _full_disk(scan: Scan, whole: Whole, rng: Generator) -> None:
    """Let no file grow beyond a size, so that a record is written in part and the scan ends."""
    room = scan.size() + int(rng.integers(1, max(2, whole.size // 4)))
    _, errors = (process := scan.start(resume=scan.journal.exists(), file_bytes=room)).communicate()
    if process.returncode not in (_ATTACKED, _USER) or errors.count(b"\n") > 1:
        raise RuntimeError(f"expected one sentence and exit code 2, found {process.returncode}: {errors!r}")


WAYS: dict[str, Callable[[Scan, Whole, Generator], None]] = {
    "killed while writing": _while_writing,
    "killed at any moment": _at_any_moment,
    "power cut": _power_cut,
    "full disk": _full_disk,
}
_ORDERS = (
    ("killed while writing", "power cut", "killed while writing", "killed while writing", "killed at any moment"),
    ("killed at any moment", "killed while writing", "full disk", "killed while writing", "killed while writing"),
)


def turns(numbers: Sequence[int], seed: int) -> Iterator[Turn]:
    """Stop and resume a scan for each number, after one that is not stopped."""
    with tempfile.TemporaryDirectory() as scratch:
        scan = Scan(Path(scratch) / "scan")
        scan.folder.mkdir()
        started = time.monotonic()
        scan.start(resume=False).communicate()
        whole = Whole(time.monotonic() - started, scan.records(), scan.size(), scan.report())
        for number in numbers:
            shutil.rmtree(scan.folder)
            scan.folder.mkdir()
            rng = np.random.default_rng([seed, number])
            stops = tuple(_stop(scan, whole, way, rng) for way in _ORDERS[number % len(_ORDERS)])
            _finish(scan)
            yield Turn(number, stops, scan.report() != whole.report)


def _stop(scan: Scan, whole: Whole, way: str, rng: Generator) -> Stop:
    started = time.monotonic()
    WAYS[way](scan, whole, rng)
    seconds = round(time.monotonic() - started, 2)
    return Stop(way, seconds, scan.records(), (scan.folder / "report.json").exists())


def _finish(scan: Scan) -> None:
    _, errors = (process := scan.start(resume=True)).communicate()
    if process.returncode != _ATTACKED:
        raise RuntimeError(f"expected the resumed scan to detect (exit 1), found {process.returncode}: {errors!r}")


def table(done: Sequence[Turn], made_by: str) -> str:
    """The scans as Markdown."""
    stops = [stop for turn in done for stop in turn.stops]
    rows = []
    for turn in sorted(done, key=lambda turn: turn.number):
        listed = "; ".join(f"{stop.way}: {stop.kept}, {stop.seconds:.1f} s" for stop in turn.stops)
        rows.append((turn.number, listed, "**differs**" if turn.differs else "identical"))
    return page(
        "Stopped and resumed scans",
        f"Made by `{made_by}` {circumstances(('onnx', 'onnxruntime', 'torch', 'numba'))}.",
        f"{len(done)} scans of 90 class pairs were stopped {len(stops)} times and resumed each time: "
        f"{sum(turn.differs for turn in done)} reports differ from that of the scan that was never stopped in more "
        f"than timings. {sum(stop.way != 'full disk' for stop in stops)} stops were a SIGKILL to the process group.",
        grid(
            ("way", "stops", "before the first record", "some records kept", "after the report"),
            [(way, *_moments([stop for stop in stops if stop.way == way])) for way in WAYS],
            "lllll",
        ),
        "Power cut: killed while writing, and the last record loses a random part of its end. Full disk: a limit of "
        "the file size, at which a record is written in part and the scan ends with exit code 2 and one sentence. A "
        "chunk that was not finished is searched and written again, so there are more records than those of one scan.",
        grid(("scan", "stops: records kept, seconds from the start", "report"), rows, "lll"),
    )


def _moments(stops: Sequence[Stop]) -> tuple[int, int, int, int]:
    """How many there are, and of these before the first record, after some, and after the report."""
    before, after = sum(stop.kept == 0 for stop in stops), sum(stop.finished for stop in stops)
    return len(stops), before, len(stops) - before - after, after


def _restored(document: dict[str, Any]) -> Turn:
    return Turn(**{**document, "stops": tuple(Stop(**stop) for stop in document["stops"])})


def main() -> int:
    """Run all scans and print what came of them."""
    parser = command.parser(__doc__, out="kill_resume.json and kill_resume.md")
    parser.add_argument("--count", type=int, default=12, help="scans to stop, five times each")
    parser.add_argument("--seed", type=int, default=0, help="seed of ways and moments")
    parser.add_argument("--progress", type=Path, help="file of finished scans, which are not run again")
    options = parser.parse_args()
    done = [_restored(line) for line in command.read_lines(options.progress)]
    left = sorted(set(range(options.count)) - {turn.number for turn in done})
    for turn in turns(left, options.seed) if left else ():
        done.append(turn)
        print(turn, flush=True)
        command.append_line(options.progress, asdict(turn))
    report = table(done, f"python -m benchmarks.kill_resume --count {options.count} --seed {options.seed}")
    print(report)
    command.publish(options.out, "kill_resume", report, [asdict(turn) for turn in done])
    return int(any(turn.differs for turn in done))
