"""Stop scans at random moments, resume them, and compare the reports with the uninterrupted one.

    python -m benchmarks.kill_resume --count 50 --seed 0 [--progress FILE] [--out benchmarks/results]

Each turn starts `scanner check --journal` and stops it in one of four ways, in turn (see `WAYS`): SIGKILL to the whole
process group while the journal is written, or at any moment of the scan; a power cut, which also loses a part of the
last record; or a disk that is full. Then `--resume` continues until the scan ends. The final report must equal the
uninterrupted one in everything but timings. Every finished turn is appended to the file of `--progress`; a later run
with the same file goes on there. Exit code 1 if a report differs.
"""

from __future__ import annotations

import argparse
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
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from benchmarks.circumstances import circumstances

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
        """The report without its timings."""
        document: dict[str, Any] = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        del document["timings"]
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
class Turn:
    """One stopped and resumed scan."""

    number: int
    """Its place in the series, which with the seed decides way and moment."""
    way: str
    """How it was stopped: a key of `WAYS`."""
    seconds: float
    """When it was stopped, in seconds from its start."""
    kept: int
    """Whole records that its journal had then."""
    records: int
    """Records of the uninterrupted scan."""
    differs: bool
    """Whether the final report differs from the uninterrupted one in more than timings."""


def _kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _while_writing(scan: Scan, whole: Whole, rng: Generator) -> None:
    """Kill a moment after the journal has reached a size."""
    size, delay = int(rng.integers(whole.size)), float(rng.uniform(0, _LONGEST_DELAY))
    process = scan.start(resume=False)
    while scan.size() <= size and process.poll() is None:
        time.sleep(0.0005)
    time.sleep(delay)
    _kill(process)


def _at_any_moment(scan: Scan, whole: Whole, rng: Generator) -> None:
    """Kill at a moment between the start and the usual end."""
    process = scan.start(resume=False)
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
    _, errors = (process := scan.start(resume=False, file_bytes=int(rng.integers(1, whole.size)))).communicate()
    if process.returncode != _USER or errors.count(b"\n") != 1:
        raise RuntimeError(f"expected one sentence and exit code 2, found {process.returncode}: {errors!r}")


WAYS: dict[str, Callable[[Scan, Whole, Generator], None]] = {
    "killed while writing": _while_writing,
    "killed at any moment": _at_any_moment,
    "power cut": _power_cut,
    "full disk": _full_disk,
}
_ORDER = (*["killed while writing"] * 3, "killed at any moment") * 2 + ("power cut", "full disk")
"""The ways of ten turns: eight kills, six of them while writing."""


def turns(numbers: Sequence[int], seed: int) -> Iterator[Turn]:
    """Stop and resume once for each number, after one uninterrupted scan."""
    with tempfile.TemporaryDirectory() as scratch:
        scan = Scan(Path(scratch) / "scan")
        scan.folder.mkdir()
        started = time.monotonic()
        scan.start(resume=False).communicate()
        whole = Whole(time.monotonic() - started, scan.records(), scan.size(), scan.report())
        for number in numbers:
            shutil.rmtree(scan.folder)
            scan.folder.mkdir()
            way, started = _ORDER[number % len(_ORDER)], time.monotonic()
            WAYS[way](scan, whole, np.random.default_rng([seed, number]))
            seconds, kept = time.monotonic() - started, scan.records()
            _resume(scan)
            yield Turn(number, way, round(seconds, 2), kept, whole.records, scan.report() != whole.report)


def _resume(scan: Scan) -> None:
    _, errors = (process := scan.start(resume=True)).communicate()
    if process.returncode != _ATTACKED:
        raise RuntimeError(f"expected the resumed scan to detect (exit 1), found {process.returncode}: {errors!r}")


def table(done: Sequence[Turn], command: str) -> str:
    """The turns as Markdown."""
    differing = sum(turn.differs for turn in done)
    killed = [turn for turn in done if turn.way.startswith("killed")]
    lines = [
        "# Stopped and resumed scans",
        "",
        f"Made by `{command}` {circumstances(('onnx', 'onnxruntime', 'torch', 'numba'))}.",
        "",
        f"{len(done)} scans of 90 class pairs, each stopped and resumed: {differing} reports differ from the "
        "uninterrupted one in more than timings.",
        "",
        "| way | scans | journal partly written | before the first record | after the last | reports that differ |",
        "|---|---|---|---|---|---|",
    ]
    for way in WAYS:
        of_way = [turn for turn in done if turn.way == way]
        midway, before = sum(0 < turn.kept < turn.records for turn in of_way), sum(turn.kept == 0 for turn in of_way)
        after, differing = len(of_way) - midway - before, sum(turn.differs for turn in of_way)
        lines.append(f"| {way} | {len(of_way)} | {midway} | {before} | {after} | {differing} |")
    lines += [
        "",
        f"Of {len(killed)} kills {sum(0 < turn.kept < turn.records for turn in killed)} fell while the journal was "
        "partly written. Full disk: a limit of the file size, at which a record is written in part and the scan ends "
        "with exit code 2 and one sentence. Power cut: killed, and the last record loses a random part of its end.",
        "",
        "| turn | way | seconds | whole records kept | report |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {t.number} | {t.way} | {t.seconds:.1f} | {t.kept} of {t.records} | "
        f"{'**differs**' if t.differs else 'identical'} |"
        for t in sorted(done, key=lambda turn: turn.number)
    ]
    return "\n".join(lines) + "\n"


def _finished(progress: Path | None) -> list[Turn]:
    lines = progress.read_text().splitlines() if progress and progress.exists() else []
    return [Turn(**json.loads(line)) for line in lines]


def main() -> int:
    """Run all turns and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50, help="scans to stop")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--progress", type=Path, help="file of finished turns, which are not run again")
    parser.add_argument("--out", type=Path, help="folder for kill_resume.json and kill_resume.md")
    options = parser.parse_args()
    done = _finished(options.progress)
    left = sorted(set(range(options.count)) - {turn.number for turn in done})
    for turn in turns(left, options.seed) if left else ():
        done.append(turn)
        print(turn, flush=True)
        if options.progress:
            with options.progress.open("a") as file:
                file.write(json.dumps(asdict(turn)) + "\n")
    report = table(done, f"python -m benchmarks.kill_resume --count {options.count} --seed {options.seed}")
    print(report)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "kill_resume.json").write_text(json.dumps([asdict(turn) for turn in done], indent=1) + "\n")
        (options.out / "kill_resume.md").write_text(report)
    return int(any(turn.differs for turn in done))


if __name__ == "__main__":
    sys.exit(main())
