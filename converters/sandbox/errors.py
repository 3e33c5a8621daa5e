"""Why a call into the sandbox has no answer: the errors, and how the end of the child or its own words become one.

ConverterError
└── SandboxError              the child gave no answer
    ├── ResourceLimitError    it used more than it may: `resource`, `limit`, `actual`
    ├── TimeUpError           the time of the whole task is up (`clock`)
    └── SandboxDiedError      it died, or answered with something that is no message: `reason`
UnexpectedError               the target raised an error that nobody foresaw: a defect, with the child's traceback
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence

from backscan.converters.errors import ConverterError
from backscan.converters.sandbox.limits import PhaseLimits
from backscan.converters.sandbox.wire import Message

_UNITS = {
    "wall_seconds": "seconds",
    "silence_seconds": "seconds without a sign of life",
    "cpu_seconds": "seconds of processor time",
    "memory_bytes": "bytes of memory",
}


class SandboxError(ConverterError):
    """The child gave no answer; `phase` says in which step."""

    def __init__(self, message: str, *, phase: str) -> None:
        super().__init__(message)
        self.phase = phase


class ResourceLimitError(SandboxError):
    """The child used more of a resource than it may; `actual` is None where the system does not tell."""

    def __init__(self, message: str, *, phase: str, resource: str, limit: float, actual: float | None = None) -> None:
        super().__init__(message, phase=phase)
        self.resource = resource
        self.limit = limit
        self.actual = actual


class TimeUpError(SandboxError):
    """The time of the whole task was up before the child answered; no fault of the child."""


class SandboxDiedError(SandboxError):
    """The child died of a signal, ended by itself, or answered with bytes that are no message."""

    def __init__(self, message: str, *, phase: str, reason: str, output: str = "") -> None:
        super().__init__(message, phase=phase)
        self.reason = reason
        self.output = output


class UnexpectedError(Exception):
    """The target raised an error that is not of the known kinds; `child_traceback` is for `--debug`."""

    def __init__(self, message: str, *, phase: str, child_traceback: str = "") -> None:
        super().__init__(message)
        self.phase = phase
        self.child_traceback = child_traceback


def exceeded(phase: str, resource: str, limit: float, actual: float | None) -> ResourceLimitError:
    """The child used more than it may; `actual` is None where the system does not tell how much."""
    used = "used it up" if actual is None else f"used {actual:,.4g}"
    return ResourceLimitError(
        f"expected phase {phase!r} to need at most {limit:,.4g} {_UNITS[resource]}, but it {used}: "
        "raise this limit if you trust the model",
        phase=phase,
        resource=resource,
        limit=limit,
        actual=actual,
    )


def late(phase: str, limit: float) -> TimeUpError:
    """The time of the whole task is up."""
    when = "while the model was opened" if phase == "import" else f"in the step {phase!r}"
    return TimeUpError(f"the time limit of {limit:g} s was over {when}: raise --time-limit", phase=phase)


def died(phase: str, reason: str, sentence: str, output: bytes) -> SandboxDiedError:
    """The child died, or answered with something that is no message.

    Args:
        phase: What it should have done.
        reason: One word for it.
        sentence: What happened to "the child process".
        output: The end of what its libraries printed.
    """
    text = output.decode(errors="replace")
    error = SandboxDiedError(
        f"expected an answer from phase {phase!r}, but the child process {sentence}: "
        "scan again, and mistrust the model if it happens again",
        phase=phase,
        reason=reason,
        output=text,
    )
    error.add_note(f"The last output of the child process:\n{text}")
    return error


def explained(code: int | None, output: bytes, phase: PhaseLimits, memory_bytes: int) -> SandboxError:
    """The error for a child that closed its pipe.

    Args:
        code: Its exit code, negative for a signal; None if it still runs.
        output: The end of what its libraries printed.
        phase: What it should have done.
        memory_bytes: What it could use.
    """
    if code == -signal.SIGXCPU:
        return exceeded(phase.name, "cpu_seconds", phase.cpu_seconds or 0, None)
    if b"bad_alloc" in output or b"MemoryError" in output:
        return exceeded(phase.name, "memory_bytes", memory_bytes, None)
    if code == -signal.SIGKILL:
        sentence = "was killed by the system, most likely because memory ran out"
        return died(phase.name, "killed", sentence, output)
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return died(phase.name, name, f"died of {name}", output)
    return died(phase.name, "ended", f"ended without an answer (exit code {code})", output)


def error_kinds(roots: Sequence[type[Exception]]) -> dict[str, type[Exception]]:
    """Full name -> class, of some errors and all that derive from them."""
    return {f"{kind.__module__}.{kind.__qualname__}": kind for root in roots for kind in _tree(root)}


def _tree(root: type[Exception]) -> list[type[Exception]]:
    return [root] + [kind for child in root.__subclasses__() for kind in _tree(child)]


def told_error(answer: Message, kinds: Mapping[str, type[Exception]], phase: str) -> Exception:
    """The error that the target raised.

    Args:
        answer: A checked answer of the kind `error`.
        kinds: Errors that come back as what they are, with their fields.
        phase: The phase in which it was raised.

    Returns:
        An error of a known kind, else an `UnexpectedError` with the child's traceback.
    """
    kind = kinds.get(answer["class"])
    if kind is None:
        sentence = f"phase {phase!r} failed with {answer['class']}: {answer['text']}"
        return UnexpectedError(sentence, phase=phase, child_traceback=answer["traceback"])
    error = kind.__new__(kind, answer["text"])
    error.args = (answer["text"],)
    # What the class itself says, such as how the command line ends, is not for the child to say.
    error.__dict__.update({name: value for name, value in answer["fields"].items() if not hasattr(kind, name)})
    return error
