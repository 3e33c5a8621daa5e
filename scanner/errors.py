"""Everything that can end a scan without a verdict about the model, and the exit code of each.

ScanError                   something the caller can handle; every message names the remedy
├── UserError               the user's mistake (2): options, paths, images, labels
│   ├── OptionError         an option that does not exist, contradicts another or is out of range
│   │   └── AbsentNameError     one that names what this model does not have
│   ├── CleanSetError       images or labels that cannot be read or do not fit the model
│   ├── ReportError         a report that is not ours, of another version, or damaged
│   └── JournalMismatchError  a journal of another model, data or configuration
├── NoVerdictError          the model cannot be scanned (3): unparsable, refused, not importable, parity failed
│   └── TimeUpError             the time limit ended it before the search; during the search it ends that alone
└── InternalError           a defect of the scanner (70)
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command line. docs/contract.md: `1` only ever means a detection."""

    NOT_DETECTED = 0
    DETECTED = 1
    USER_ERROR = 2
    NO_VERDICT = 3
    INCONCLUSIVE = 4
    INTERNAL = 70
    INTERRUPTED = 130


class ScanError(Exception):
    """Base of the errors that end a scan; `exit_code` is what the command line returns."""

    exit_code = ExitCode.INTERNAL


class UserError(ScanError):
    """What was asked cannot be done as asked; the message says what to change."""

    exit_code = ExitCode.USER_ERROR


class OptionError(UserError):
    """An option is unknown, out of range or contradicts another."""


class AbsentNameError(OptionError):
    """An option names an output or a tensor that this model does not have; another model may."""


class CleanSetError(UserError):
    """The clean images or their labels cannot be read, or do not fit the model."""


class ReportError(UserError):
    """A JSON report is missing, damaged, of another version, or lacks what the command needs."""


class JournalMismatchError(UserError):
    """A journal belongs to another model, data or configuration; `field` names what differs."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class NoVerdictError(ScanError):
    """The model could not be scanned at all, so nothing is said about it."""

    exit_code = ExitCode.NO_VERDICT


class TimeUpError(NoVerdictError):
    """The time limit of the scan was up before a step was done."""


class InternalError(ScanError):
    """A defect of the scanner itself: one sentence for the user, `--debug` for the traceback."""
