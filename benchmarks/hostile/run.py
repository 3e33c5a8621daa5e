"""`scanner check` on hostile and broken inputs, in two processes that must outlive them all.

    python -m benchmarks.hostile [--seed 94121] [--generated 90] [--only TEXT] [--jobs 2] [--out benchmarks/results]

Each row is run like the command line runs it; the table shows its exit code, time and the largest memory of its child
process. A row fails if it ends in another exit code than it should, says more than a sentence or nothing at all, or
takes longer or more than allowed. The exit code of this command says whether any failed.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from backscan.scanner.cli.app import app
from benchmarks import command
from benchmarks.hostile.extremes import EXTREMES
from benchmarks.hostile.fuzz import MEMORY
from benchmarks.hostile.inputs import BEHAVIOUR, DATA, FILES, HONEST, MODELS, HostileInput, generated
from benchmarks.hostile.kept import CACHE, KEPT, OPTIONS
from benchmarks.hostile.surroundings import SURROUNDINGS
from benchmarks.provenance import circumstances
from benchmarks.table import grid, page

MAX_SECONDS = 120.0
MAX_MEGABYTES = 2048
_LIBRARIES = ("onnx", "onnxruntime", "torch", "protobuf")
_OPTIONS = {"check": OPTIONS, "verify": ("--format", "json")}
_PAGE = resource.getpagesize()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a row."""

    name: str
    """What was hostile or broken."""
    expected: tuple[int, ...]
    """Exit codes that are right."""
    exit_code: int
    """Exit code of the command line."""
    seconds: float
    """Duration."""
    megabytes: int
    """Largest resident memory of the child."""
    message: str
    """Verdict and first reason, or the sentence of the error."""
    fault: str
    """Why the row fails, or nothing."""


class MemoryWatch(threading.Thread):
    """Follows the resident memory of this process's children, and by how much its own grows."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.largest = 0
        self._own = _resident("self")
        self._done = threading.Event()

    def run(self) -> None:
        """Look every few hundredths of a second."""
        while not self._done.wait(0.03):
            self.largest = max(self.largest, _children_bytes(), _resident("self") - self._own)

    def stop(self) -> int:
        """End; return the largest memory seen, in bytes."""
        self._done.set()
        self.join()
        return self.largest


def _children_bytes() -> int:
    total = 0
    for path in Path("/proc/self/task").glob("*/children"):
        try:
            for child in path.read_text().split():
                total += _resident(child)
        except OSError:  # it ended meanwhile
            continue
    return total


def _resident(process: str) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE


def check(row: HostileInput, seed: int) -> Outcome:
    """Run one row."""
    with tempfile.TemporaryDirectory(prefix="hostile-", ignore_cleanup_errors=True) as folder:
        arguments = row.prepare(Path(folder), np.random.default_rng(seed))
        watch, start = MemoryWatch(), time.monotonic()
        watch.start()
        with contextlib.chdir(_working_folder(Path(folder))):
            result = CliRunner().invoke(
                app,
                ["--quiet", row.command, *_OPTIONS[row.command], *arguments],
                env={"XDG_CACHE_HOME": f"{folder}/{CACHE}"},
            )
        seconds, memory = time.monotonic() - start, watch.stop()
        written = row.spared and (Path(folder) / row.spared).exists()
    outcome = Outcome(
        row.name,
        tuple(sorted(row.expected)),
        result.exit_code,
        round(seconds, 2),
        memory >> 20,
        _message(result.stdout, result.stderr).replace(folder, "FOLDER")[:200],
        "",
    )
    return replace(outcome, fault=f"wrote {row.spared}" if written else _fault(outcome, result.exception))


def _working_folder(folder: Path) -> Path:
    """Where the user stands: beside the model, if the row says so."""
    return folder / "here" if (folder / "here").is_dir() else folder


def inputs(generated_count: int, seed: int) -> list[HostileInput]:
    """All rows of the table, the generated ones last."""
    fixed = (*MODELS, *BEHAVIOUR, *FILES, *DATA, *SURROUNDINGS, *KEPT, *EXTREMES)
    return [*fixed, *generated(generated_count, seed)]


def check_all(names: Sequence[str], generated_count: int, seed: int, jobs: int) -> Iterator[Outcome]:
    """Run rows in a few processes, each of which must live to the end.

    Args:
        names: Of the inputs.
        generated_count: How many inputs are generated.
        seed: Of what they make.
        jobs: Processes.

    Yields:
        Their outcomes, in the order of the names.

    Raises:
        BrokenProcessPool: An input took the process with it that was scanning.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_limit_memory) as pool:
        yield from pool.map(partial(_check_named, generated_count, seed), names)


def _check_named(generated_count: int, seed: int, name: str) -> Outcome:
    """Rows hold functions, which cannot be sent to another process; names can."""
    return check(next(row for row in inputs(generated_count, seed) if row.name == name), seed)


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _message(stdout: str, stderr: str) -> str:
    """The verdict of the first report with its first reason, or the last line of the messages."""
    try:
        report = json.loads(stdout)
    except ValueError:
        lines = [line.strip() for line in stderr.splitlines() if line.strip()]
        return lines[-1] if lines else ""
    first = next(iter(report.get("reports", [report])))
    return f"{first['verdict']}: {(*first['reasons'], '')[0]}"


def _fault(outcome: Outcome, error: BaseException | None) -> str:
    if error is not None and not isinstance(error, SystemExit):
        return f"raised {type(error).__name__}: {error}"
    if outcome.exit_code not in outcome.expected:
        return f"expected exit code {' or '.join(map(str, outcome.expected))}"
    if not outcome.message:
        return "said nothing"
    if outcome.seconds > MAX_SECONDS:
        return f"expected at most {MAX_SECONDS} s"
    return f"expected at most {MAX_MEGABYTES} MB" if outcome.megabytes > MAX_MEGABYTES else ""


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as Markdown."""
    said = [(f"**{outcome.fault}** " if outcome.fault else "") + outcome.message for outcome in outcomes]
    rows = [
        (outcome.name, outcome.exit_code, f"{outcome.seconds:.1f}", outcome.megabytes, text)
        for outcome, text in zip(outcomes, said, strict=True)
    ]
    return "\n".join(grid(("input", "exit", "seconds", "MB", "says"), rows, "lllll"))


def main() -> int:
    """Run the rows, print the table, and write it."""
    parser = command.parser(__doc__, out="hostile.json and hostile.md")
    parser.add_argument("--seed", type=int, default=94121, help="of the generated inputs")
    parser.add_argument("--generated", type=int, default=120, help="how many inputs are generated")
    parser.add_argument("--only", default="", help="rows whose name holds this text")
    parser.add_argument("--jobs", type=int, default=2, help="inputs at a time")
    options = parser.parse_args()
    names = [row.name for row in inputs(options.generated, options.seed) if options.only in row.name]
    check(HONEST, options.seed)  # the first scan of an installation compiles the kernels, which is no row's fault
    outcomes, start = [], time.monotonic()
    for outcome in check_all(names, options.generated, options.seed, options.jobs):
        outcomes.append(outcome)
        print(json.dumps(asdict(outcome)), file=sys.stderr, flush=True)
    failed = [outcome for outcome in outcomes if outcome.fault]
    seconds = time.monotonic() - start
    print(table(outcomes), f"\n{len(outcomes)} inputs in {seconds:.0f} s, {len(failed)} failed")
    made_by = f"python -m benchmarks.hostile --seed {options.seed} --generated {options.generated}"
    text = page(
        "Hostile and broken inputs",
        f"Made by `{made_by}` {circumstances(_LIBRARIES)}.",
        f"{len(outcomes)} inputs in {seconds:.0f} s, {options.jobs} at a time, {len(failed)} failed.",
        table(outcomes),
    )
    command.publish(options.out, "hostile", text, [asdict(outcome) for outcome in outcomes])
    return 1 if failed else 0
