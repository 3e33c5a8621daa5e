"""Kill a scan at random moments and resume it; the report must be that of the uninterrupted scan but for timings.

    python -m benchmarks.interrupted [--kills 50] [--seed 1] [--model FILE --data FILE] [--images-per-class 10]

SIGKILL comes at a moment drawn between the start and the usual duration. Each scan is resumed until it ends; before
one in three resumptions the journal's last line is cut somewhere, as a power cut may leave it.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

_SHARE_CUT = 1 / 3
SAMPLES = Path(__file__).parents[1] / "scanner" / "samples"


def compared(path: Path) -> dict[str, Any]:
    """A report without what may differ: timings, and the command, which says whether it was resumed."""
    report: dict[str, Any] = json.loads(path.read_text())
    del report["timings"]
    del report["provenance"]["command"]
    return report


def start(arguments: list[str], report: Path, *more: str) -> "subprocess.Popen[bytes]":
    """Start a scan that writes a report."""
    command = [sys.executable, "-m", "backscan.scanner", "--quiet", "check", *arguments, "--report", str(report), *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True, env=dict(os.environ))


def cut_last_line(journal: Path, rng: Generator) -> None:
    """Leave only part of the last record."""
    lines = journal / "pairs.jsonl"
    content = lines.read_bytes() if lines.exists() else b""
    last = content[:-1].rfind(b"\n") + 1
    if last < len(content):
        lines.write_bytes(content[: rng.integers(last, len(content))])


def run_with_kills(arguments: list[str], folder: Path, usual: float, kills: int, rng: Generator) -> int:
    """Kill and resume one scan until it ends; return how often it was killed."""
    journal, report = folder / "journal", folder / "report.json"
    killed, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        process = start(arguments, report, "--journal", str(journal), "--resume")
        try:
            code = process.wait(timeout=rng.uniform(0.05, 1.1) * usual if killed < kills else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            code = process.wait()
            killed += 1
            if rng.random() < _SHARE_CUT:
                cut_last_line(journal, rng)
    return killed


def main() -> int:
    """Run scans until enough were killed, and compare their reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=Path, default=SAMPLES / "digits_backdoored.onnx")
    parser.add_argument("--data", type=Path, default=SAMPLES / "digits_clean.npz")
    parser.add_argument("--images-per-class", type=int, default=10)
    options = parser.parse_args()
    arguments = [str(options.model), "--data", str(options.data), "--images-per-class", str(options.images_per_class)]
    rng, killed, scans, differing = np.random.default_rng(options.seed), 0, 0, 0
    with tempfile.TemporaryDirectory(prefix="interrupted-") as folder:
        began = time.monotonic()
        start(arguments, Path(folder) / "reference.json").wait()
        usual, reference = time.monotonic() - began, compared(Path(folder) / "reference.json")
        while killed < options.kills:
            scan = Path(folder) / str(scans)
            scan.mkdir()
            killed += run_with_kills(arguments, scan, usual, options.kills - killed, rng)
            scans += 1
            differing += compared(scan / "report.json") != reference
    print(f"{killed} kills in {scans} scans of {usual:.1f} s: {differing} reports differ from the uninterrupted one")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
