"""One journey: started, timed, and held against what it should answer."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from benchmarks.journeys.situations import QUICK, Journey

MAX_SECONDS = 300.0
_LINES = 15
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Arrival:
    """What became of a journey."""

    situation: str
    """What it was for."""
    typed: str
    """What was typed."""
    code: int
    """Exit code."""
    seconds: float
    """Duration."""
    first_line: str
    """First line of the answer: of standard output, else the last of standard error."""
    fault: str
    """What was wrong; empty if nothing."""

    @property
    def line(self) -> str:
        """One line for the terminal."""
        return f"{self.fault or 'right':8} {self.code} {self.seconds:6.1f} s  {self.situation}: {self.first_line}"


def in_process(journey: Journey, folder: Path) -> Arrival:
    """Run it as users do, in a process of its own."""
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "backscan.scanner", *journey.arguments],
            cwd=folder / journey.folder,
            env=os.environ | _environment(folder),
            capture_output=True,
            text=True,
            timeout=MAX_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _arrived(journey, -1, time.perf_counter() - start, "", f"not done in {MAX_SECONDS:.0f} s")
    said = (text.replace(str(folder), "FOLDER") for text in (done.stdout, done.stderr))
    return _arrived(journey, done.returncode, time.perf_counter() - start, *said)


def in_this_process(journey: Journey, folder: Path) -> Arrival:
    """Run it without a process of its own, and scans that need no full search without one for the model either."""
    from backscan.scanner.cli.app import app

    arguments = [*journey.arguments, *(["--no-sandbox"] if QUICK in journey.typed else [])]
    start = time.perf_counter()
    with _within(folder / journey.folder):
        result = CliRunner(env=_environment(folder)).invoke(app, arguments)
    said = (text.replace(str(folder), "FOLDER") for text in (result.stdout, result.stderr))
    return _arrived(journey, result.exit_code, time.perf_counter() - start, *said)


def _environment(folder: Path) -> dict[str, str]:
    """What makes an answer the same everywhere: its width, no colours, and a cache of its own."""
    return {"COLUMNS": "100", "NO_COLOR": "1", "XDG_CACHE_HOME": str(folder / "cache")}


@contextlib.contextmanager
def _within(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _arrived(journey: Journey, code: int, seconds: float, stdout: str, stderr: str) -> Arrival:
    answer, remarks = (_COLOURS.sub("", text).strip().splitlines() for text in (stdout, stderr))
    told = (line for line in reversed(remarks) if any(map(str.isalnum, line)))
    first = next(iter(answer), next(told, ""))
    head = "\n".join((*answer[:_LINES], *remarks[-_LINES:]))
    faults = [f"exit code {journey.code} expected"] if code != journey.code else []
    faults += [f"{journey.says!r} not said"] if not re.search(journey.says, head, re.IGNORECASE) else []
    faults += ["a traceback"] if "Traceback (most recent call last)" in stdout + stderr else []
    return Arrival(journey.situation, journey.typed, code, round(seconds, 1), first.strip()[:160], "; ".join(faults))
