"""How the scan of a model ended on a worker, as data: results, and what was raised after them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from backscan.scanner import errors
from backscan.scanner.errors import InternalError, JournalMismatchError, ScanError
from backscan.scanner.pipeline.ends import NameNotInModelError
from backscan.scanner.results import ScanResult


@dataclass(frozen=True, slots=True)
class Failure:
    """An error, without what would not travel."""

    kind: str
    """Name of its class, where that is one of the scanner's."""
    message: str
    """Its sentence."""
    result: ScanResult | None = None
    """What is left of the model where an option names what it does not have."""
    field: str = ""
    """What differs between a journal and its scan."""
    trace: str = ""
    """Where a defect showed, for `--debug`."""

    @classmethod
    def of(cls, error: Exception, trace: str = "") -> Failure:
        """An error as data."""
        kind = type(error).__name__ if isinstance(error, ScanError) else ""
        message = str(error) if kind else f"{type(error).__name__}: {error}"
        left = error.result if isinstance(error, NameNotInModelError) else None
        return cls(kind, message, left, getattr(error, "field", ""), "" if kind else trace)

    @property
    def is_of_one_model(self) -> bool:
        """Whether other models go on."""
        return self.result is not None

    def error(self) -> Exception:
        """The error again."""
        if self.result is not None:
            return NameNotInModelError(self.message, self.result)
        if self.kind == JournalMismatchError.__name__:
            return JournalMismatchError(self.message, field=self.field)
        kind = getattr(errors, self.kind, InternalError) if self.kind else InternalError
        error: Exception = kind(self.message)
        if self.trace:
            error.add_note(self.trace)
        return error


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a model."""

    results: tuple[ScanResult, ...] = ()
    """A result for each head that was scanned."""
    failure: Failure | None = None
    """What ended it."""

    @property
    def ends_all(self) -> bool:
        """Whether it is the user's mistake or a defect, after which nothing more is scanned."""
        return self.failure is not None and not self.failure.is_of_one_model

    def replayed(self) -> Iterator[ScanResult]:
        """The results, then what was raised."""
        yield from self.results
        if self.failure is not None:
            raise self.failure.error()
