"""Mutated model files through the intake, and through the whole import in the sandbox.

    python -m benchmarks.fuzz [--count 100000] [--whole 2000] [--seconds 3600] [--seed 0] [--models DIR] [--keep DIR]
                              [--out benchmarks/results]

Bytes are flipped, cut, doubled and moved; or the file is taken apart as a protocol buffer, and fields are set to values
that break assumptions, removed, repeated, or swapped with others of their kind. The intake may accept, refuse or call
the bytes unreadable, each within its time; anything else is a defect, kept with its seed and printed. Files that the
intake accepts also go through the import in the sandbox, every fourth through the search for switches as well; there
only `InternalError` is a defect, and a limit that ended the child is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from numpy.random import Generator

from backscan.converters import artifact_from_bytes, audit
from backscan.converters.errors import ArtifactError
from backscan.converters.sandbox.errors import SandboxError
from backscan.scanner import ScanConfig
from backscan.scanner.errors import NoVerdictError
from backscan.scanner.process.parent import ModelProcess, open_process
from benchmarks import command
from benchmarks.hostile.models import HOSTILE_MODELS, classifier, external
from benchmarks.provenance import circumstances
from benchmarks.switches.backdoors import SWITCHES, plant_switch
from benchmarks.table import grid, page

MAX_SECONDS = 10.0
"""Longest look at one file; a loaded machine needs some slack."""
MEMORY = 6 << 30
"""Address space of the child, in place of three quarters of the machine: bombs should not push others out."""
_MAX_BASE = 1 << 17
_SWITCHES_EVERY = 4
_NUMBERS = (0, 1, -1, 2, 7, 127, 255, 65536, 2**31 - 1, -(2**31), 2**32, 2**62, 2**63 - 1, -(2**63))
_NAMES = ("ai.onnx", "com.microsoft", "Loop", "If", "Scan", "Constant")
_TEXTS = ("", "a", "../x", "/etc/passwd", "x" * 5000, "\x00", *_NAMES)


@cache
def base_models(folder: Path | None) -> list[bytes]:
    """Small honest, hostile and backdoored files to start from, and those of a folder."""
    plain = classifier()
    planted = (plant_switch(kind, plain, (1, 8, 8), 3).SerializeToString() for kind in SWITCHES)
    hostile = (entry.make() for entry in HOSTILE_MODELS.values())
    files = (path.read_bytes() for path in sorted(folder.glob("*.onnx"))) if folder else ()
    made = [plain.SerializeToString(), external("weights").SerializeToString(), *planted, *hostile, *files]
    return [data for data in made if len(data) <= _MAX_BASE]


def mutate(data: bytes, rng: Generator) -> bytes:
    """One mutated file; most are still protocol buffers."""
    if rng.random() < 0.2:
        return _mutate_bytes(data, rng)
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        return _mutate_bytes(data, rng)
    for _ in range(int(rng.integers(1, 4))):
        with contextlib.suppress(ValueError, TypeError):  # the value does not fit the field
            _mutate_message(model, rng)
    return bytes(model.SerializeToString())


def _mutate_bytes(data: bytes, rng: Generator) -> bytes:
    changed = bytearray(data or b"\x00")
    start, stop = sorted(rng.integers(0, len(changed) + 1, 2))
    kind = rng.integers(4)
    if kind == 0:
        for position in rng.integers(0, len(changed), rng.integers(1, 8)):
            changed[position] = rng.integers(256)
    elif kind == 1:
        del changed[start:]
    elif kind == 2:
        del changed[start:stop]
    else:
        changed[start:start] = changed[start:stop]
    return bytes(changed)


def _mutate_message(model: onnx.ModelProto, rng: Generator) -> None:
    messages = list(_messages(model))
    message = messages[rng.integers(len(messages))]
    fields = list(message.DESCRIPTOR.fields)
    field = fields[rng.integers(len(fields))]
    others = [other for other in messages if other.DESCRIPTOR is message.DESCRIPTOR]
    other = others[rng.integers(len(others))]
    if field.is_repeated:
        _mutate_list(getattr(message, field.name), getattr(other, field.name), field, rng)
    elif rng.random() < 0.2:
        message.ClearField(field.name)
    elif field.message_type is not None:
        _replace(getattr(message, field.name), getattr(other, field.name))
    elif rng.random() < 0.3:
        setattr(message, field.name, getattr(other, field.name))
    else:
        setattr(message, field.name, _value(field, rng))


def _mutate_list(items: Any, others: Any, field: Any, rng: Generator) -> None:
    kind = rng.integers(5)
    if kind == 0 and len(items):
        del items[int(rng.integers(len(items)))]
    elif kind == 1 and len(items):
        items.extend([items[int(rng.integers(len(items)))]] * int(rng.integers(1, 4)))
    elif kind == 2 and len(others):
        items.extend([others[int(rng.integers(len(others)))]])
    elif kind == 3 and len(items) > 1:
        kept = [items[int(index)] for index in rng.permutation(len(items))]
        copies = [_copy(item) for item in kept]
        del items[:]
        items.extend(copies)
    elif field.message_type is None:
        items.append(_value(field, rng))


def _value(field: Any, rng: Generator) -> Any:
    if field.type in (field.TYPE_STRING, field.TYPE_BYTES):
        text = _TEXTS[rng.integers(len(_TEXTS))]
        return text if field.type == field.TYPE_STRING else text.encode() or rng.bytes(8)
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return (0.0, -1.0, 1e30, float("nan"), float("inf"))[rng.integers(5)]
    return _NUMBERS[rng.integers(len(_NUMBERS))]


def _replace(target: Message, source: Message) -> None:
    copy = _copy(source)
    target.CopyFrom(copy)


def _copy(item: Any) -> Any:
    if not isinstance(item, Message):
        return item
    copy = type(item)()
    copy.CopyFrom(item)
    return copy


def _messages(message: Message) -> Iterator[Message]:
    """The message and all within it."""
    waiting = [message]
    while waiting:
        current = waiting.pop()
        yield current
        for field, value in current.ListFields():
            if field.message_type is not None:
                waiting.extend(value if field.is_repeated else [value])


def look(data: bytes) -> str:
    """What the intake says: accepted, refused or unreadable.

    Raises:
        TimeoutError: It took too long.
    """
    start = time.perf_counter()
    try:
        answer = "accepted" if audit(data).accepted else "refused"
    except ArtifactError:
        answer = "unreadable"
    seconds = time.perf_counter() - start
    if seconds > MAX_SECONDS:
        raise TimeoutError(f"expected an answer within {MAX_SECONDS} s, it took {seconds:.1f} s")
    return answer


class Importer:
    """Imports files in a sandbox, and starts another where one has ended."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._process: ModelProcess | None = None
        self._count = 0

    def __call__(self, data: bytes) -> str:
        """What the import says: imported, no verdict, or ended by a limit."""
        self._count += 1
        if self._process is None:
            self._process = self._stack.enter_context(open_process(sandbox=True))
        try:
            opened = self._process.open(artifact_from_bytes("fuzzed.onnx", data), ScanConfig(image_size=(8, 8)))
            if self._count % _SWITCHES_EVERY == 0:  # it takes several times as long as the import
                opened.find_switches(seed=0)
        except NoVerdictError as error:
            if isinstance(error.__cause__, SandboxError):
                self.close()
                return "ended by a limit"
            return "no verdict"
        return "imported"

    def close(self) -> None:
        """End the sandbox."""
        self._stack.close()
        self._process = None


def run(
    bases: list[bytes],
    check: Callable[[bytes], str],
    *,
    seed: int,
    count: int,
    seconds: float,
    keep: Path | None,
    only: Callable[[bytes], bool] = bool,
) -> tuple[Counter[str], list[str]]:
    """Check mutated files until there are enough or the time is over.

    Args:
        bases: Files to start from.
        check: Names the outcome, or raises.
        seed: Of the whole series; file i is made from (seed, i) alone.
        count: Files to check.
        seconds: Longest duration.
        keep: Folder for files that failed.
        only: Which mutated files are checked.

    Returns:
        Outcomes with their counts, and a sentence for each failure.
    """
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    end, index = time.monotonic() + seconds, 0
    while outcomes.total() < count and time.monotonic() < end:
        rng = np.random.default_rng([seed, index])
        data = mutate(bases[rng.integers(len(bases))], rng)
        index += 1
        if not only(data):
            continue
        try:
            outcomes[check(data)] += 1
        except Exception as error:  # whatever it is: this is what is searched
            outcomes["FAILED"] += 1
            failures.append(f"seed {seed}, file {index - 1}: {type(error).__name__}: {error}")
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{seed}-{index - 1}.onnx").write_bytes(data)
                (keep / f"{seed}-{index - 1}.txt").write_text("".join(traceback.format_exception(error)))
    return outcomes, failures


@dataclass(frozen=True, slots=True)
class Series:
    """What became of a series of files."""

    name: str
    """What they went through."""
    outcomes: dict[str, int]
    """Outcome -> files."""
    seconds: int
    """Duration."""
    failures: list[str]
    """A sentence for each failure."""


def _is_accepted(data: bytes) -> bool:
    return look(data) == "accepted"


def series(bases: list[bytes], options: argparse.Namespace) -> Iterator[Series]:
    """Both series, as far as they are asked for."""
    common: dict[str, Any] = {"seed": options.seed, "seconds": options.seconds, "keep": options.keep}
    if options.count:
        start = time.monotonic()
        outcomes, failures = run(bases, look, count=options.count, **common)
        yield Series("intake", dict(outcomes), round(time.monotonic() - start), failures)
    if options.whole:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        start, importer = time.monotonic(), Importer()
        outcomes, failures = run(bases, importer, count=options.whole, only=_is_accepted, **common)
        importer.close()
        yield Series("import", dict(outcomes), round(time.monotonic() - start), failures)


def table(done: Sequence[Series], made_by: str) -> str:
    """The series as Markdown."""
    kinds = list(dict.fromkeys(kind for one in done for kind in one.outcomes))
    counts = [(sum(one.outcomes.values()), *(one.outcomes.get(kind, 0) for kind in kinds)) for one in done]
    rows = [(one.name, *count, len(one.failures), one.seconds) for one, count in zip(done, counts, strict=True)]
    return page(
        "Mutated model files",
        f"Made by `{made_by}` {circumstances(('onnx', 'onnxruntime', 'torch', 'protobuf'))}.",
        "Intake: any mutated file; it is accepted, refused or called unreadable. Import: files that the intake "
        "accepts, opened in onnxruntime and imported into torch in the sandbox.",
        grid(("series", "files", *kinds, "failures", "seconds"), rows, "l" * (len(kinds) + 4)),
        [f"- {failure}" for one in done for failure in one.failures],
    )


def main() -> int:
    """Run both series and print what became of the files; the exit code says whether any failed."""
    parser = command.parser(__doc__, out="fuzz.json and fuzz.md")
    parser.add_argument("--count", type=int, default=100_000, help="files through the intake")
    parser.add_argument("--whole", type=int, default=0, help="accepted files through the import in the sandbox")
    parser.add_argument("--seconds", type=float, default=3600.0, help="longest duration of each series")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", type=Path, help="folder with more .onnx files to start from")
    parser.add_argument("--keep", type=Path, help="folder for files that failed")
    options = parser.parse_args()
    done = []
    for one in series(base_models(options.models), options):
        done.append(one)
        print(f"{one.name}: {one.outcomes} in {one.seconds} s", *one.failures, sep="\n", flush=True)
    made_by = f"python -m benchmarks.fuzz --count {options.count} --whole {options.whole} --seed {options.seed}"
    command.publish(options.out, "fuzz", table(done, made_by), [asdict(one) for one in done])
    return 1 if any(one.failures for one in done) else 0
