"""Why a call into the sandbox has no answer.

ConverterError
└── SandboxError              the child gave no answer
    ├── ResourceLimitError    it used more than it may: `resource`, `limit`, `actual`
    └── SandboxDiedError      it died, or answered with something that is no message: `reason`
UnexpectedError               the target raised an error that nobody foresaw: a defect, with the child's traceback
"""

from backscan.converters.errors import ConverterError


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
