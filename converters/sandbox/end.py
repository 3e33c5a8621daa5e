"""Why the child of the sandbox ended, as typed errors."""

import signal

from backscan.converters.sandbox.errors import ResourceLimitError, SandboxDiedError, SandboxError
from backscan.converters.sandbox.limits import PhaseLimits

_UNITS = {
    "wall_seconds": "seconds",
    "silence_seconds": "seconds without a sign of life",
    "cpu_seconds": "seconds of processor time",
    "memory_bytes": "bytes of memory",
}


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
