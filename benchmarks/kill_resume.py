"""Kill a scan at random moments, resume it, and compare the report with the uninterrupted one.

    python -m benchmarks.kill_resume --count 50 --seed 0

Each turn starts `scanner check --journal`, kills the whole process group with SIGKILL after a random time, and
continues with `--resume` until the scan ends. The final report must equal the uninterrupted one in everything but
timings. Exit code 1 if one differs.
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
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np


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
        options = ["--data", str(data), "--images-per-class", "20", "--journal", "journal", "--report", "report.json"]
        return [sys.executable, "-m", "backscan.scanner", "--quiet", "check", str(model), *options]

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


def kill_and_resume(scan: Scan, seconds: float) -> int:
    """Kill the scan after some seconds, and continue it; how many of its pairs the journal had kept."""
    process = scan.start(resume=False)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    kept = _num_lines(scan.folder / "journal" / "pairs.jsonl")
    _, errors = (process := scan.start(resume=True)).communicate()
    if process.returncode != 1:
        raise RuntimeError(f"expected the resumed scan to detect (exit 1), found {process.returncode}: {errors!r}")
    return kept


def main() -> int:
    """Run all turns and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50, help="scans to kill")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "scan"
        whole = Scan(folder)
        folder.mkdir()
        started = time.monotonic()
        whole.start(resume=False).communicate()
        seconds = time.monotonic() - started
        expected = whole.report()
        differing, kept = 0, []
        for turn in range(arguments.count):
            shutil.rmtree(folder)
            folder.mkdir()
            moment = float(rng.uniform(0, seconds))
            kept.append(kill_and_resume(whole, moment))
            differs = whole.report() != expected
            differing += differs
            print(
                f"{turn + 1:3d}  killed after {moment:5.2f} s, {kept[-1]:3d} records kept, differs: {differs}",
                flush=True,
            )
    print(
        f"{arguments.count} scans of {seconds:.1f} s killed, {differing} reports differ, "
        f"{np.mean(kept):.0f} records kept on average"
    )
    return 1 if differing else 0


def _num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


if __name__ == "__main__":
    sys.exit(main())
