"""Kill a scan at random moments, resume it, and compare the report with the uninterrupted one.

    python -m benchmarks.kill_resume --count 50 --seed 0 [--progress FILE] [--out benchmarks/results]

Each turn starts `scanner check --journal`, kills the whole process group with SIGKILL after a random time, and
continues with `--resume` until the scan ends. The final report must equal the uninterrupted one in everything but
timings. Every finished turn is appended to the file of `--progress`; a later run with the same file goes on there.
Exit code 1 if a report differs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.circumstances import circumstances


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

    def start(self, *, resume: bool) -> subprocess.Popen[bytes]:
        """Start it in a process group of its own."""
        command = [*self.command, "--resume"] if resume else self.command
        return subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )

    def report(self) -> dict[str, Any]:
        """The report without its timings."""
        document: dict[str, Any] = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        del document["timings"]
        return document


@dataclass(frozen=True, slots=True)
class Turn:
    """One killed and resumed scan."""

    number: int
    """Its place in the series, which with the seed decides the moment."""
    moment: float
    """When it was killed, in seconds from its start."""
    share: float
    """The same as a share of the uninterrupted scan's duration."""
    kept: int
    """Records that its journal had then."""
    whole: int
    """Records of an uninterrupted scan: steps, pairs and chunks."""
    differs: bool
    """Whether the final report differs from the uninterrupted one in more than timings."""


def kill_and_resume(scan: Scan, seconds: float) -> int:
    """Kill the scan after some seconds, and continue it; how many records its journal had when it was killed."""
    process = scan.start(resume=False)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    kept = _num_lines(scan.journal)
    _, errors = (process := scan.start(resume=True)).communicate()
    if process.returncode != 1:
        raise RuntimeError(f"expected the resumed scan to detect (exit 1), found {process.returncode}: {errors!r}")
    return kept


def turns(numbers: Sequence[int], seed: int) -> Iterator[Turn]:
    """Kill and resume once for each number, after one uninterrupted scan."""
    with tempfile.TemporaryDirectory() as scratch:
        scan = Scan(Path(scratch) / "scan")
        scan.folder.mkdir()
        started = time.monotonic()
        scan.start(resume=False).communicate()
        seconds = time.monotonic() - started
        expected, whole = scan.report(), _num_lines(scan.journal)
        for number in numbers:
            shutil.rmtree(scan.folder)
            scan.folder.mkdir()
            share = float(np.random.default_rng([seed, number]).uniform())
            kept = kill_and_resume(scan, share * seconds)
            yield Turn(number, round(share * seconds, 2), round(share, 3), kept, whole, scan.report() != expected)


def table(done: Sequence[Turn], command: str) -> str:
    """The turns as Markdown."""
    differing = sum(turn.differs for turn in done)
    midway = sum(0 < turn.kept < turn.whole for turn in done)
    lines = [
        "# Killed and resumed scans",
        "",
        f"Made by `{command}` {circumstances(('onnx', 'onnxruntime', 'torch', 'numba'))}.",
        "",
        f"{len(done)} scans of 90 class pairs, each killed with SIGKILL at a random moment and resumed: "
        f"{differing} reports differ from the uninterrupted one in more than timings. {midway} were killed with some "
        "of the records in the journal, the others before the first or after the last.",
        "",
        "| turn | killed at, share of the scan | seconds | records kept | report |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {t.number} | {t.share:.3f} | {t.moment:.1f} | {t.kept} | {'**differs**' if t.differs else 'identical'} |"
        for t in sorted(done, key=lambda turn: turn.number)
    ]
    return "\n".join(lines) + "\n"


def _finished(progress: Path | None) -> list[Turn]:
    lines = progress.read_text().splitlines() if progress and progress.exists() else []
    return [Turn(**json.loads(line)) for line in lines]


def main() -> int:
    """Run all turns and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50, help="scans to kill")
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


def _num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


if __name__ == "__main__":
    sys.exit(main())
