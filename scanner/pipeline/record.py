"""The result of a scan while it is being made: fields are set as steps finish, and any step may end the scan."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from backscan.scanner.results import ModelRecord, Provenance, ScanResult, Verdict

if TYPE_CHECKING:
    from backscan.scanner.progress import Progress


SEARCH_PHASE = "search"
"""Name of the phase that searches class pairs."""


class Settled(Exception):  # noqa: N818 - an outcome, not an error
    """A step found that nothing more can be said; carries the verdict and its reasons."""

    def __init__(self, verdict: Verdict, *reasons: str) -> None:
        super().__init__(*reasons)
        self.verdict = verdict
        self.reasons = reasons


class Draft:
    """Collects the fields of a `ScanResult`.

    Args:
        model: The scanned file.
        config: Options of the scan, by name.
        provenance: Enough to repeat the scan.
        progress: Observer of the steps and warnings.
    """

    def __init__(
        self, *, model: ModelRecord, config: dict[str, Any], provenance: Provenance, progress: Progress
    ) -> None:
        self.fields: dict[str, Any] = {"model": model, "config": config, "provenance": provenance}
        self.progress = progress
        self._warnings: list[str] = []
        self._not_tested: list[str] = []
        self._timings: dict[str, float] = {}

    def set(self, **fields: Any) -> None:
        """Set fields of the result."""
        self.fields.update(fields)

    def warn(self, *texts: str) -> None:
        """Record what weakens the evidence, once, and tell the observer."""
        for text in texts:
            if text not in self._warnings:
                self._warnings.append(text)
                self.progress.warn(text)

    def leave_out(self, *texts: str) -> None:
        """Record what this scan cannot speak about, once."""
        self._not_tested = list(dict.fromkeys((*self._not_tested, *texts)))

    @property
    def has_searched(self) -> bool:
        """Whether the search of class pairs began."""
        return SEARCH_PHASE in self._timings

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A named step: told to the observer, its seconds recorded."""
        self.progress.phase(name)
        started = time.monotonic()
        try:
            yield
        finally:
            self._timings[name] = self._timings.get(name, 0.0) + time.monotonic() - started

    def result(self, verdict: Verdict, reasons: tuple[str, ...]) -> ScanResult:
        """The finished result."""
        return ScanResult(
            verdict=verdict,
            reasons=reasons,
            warnings=tuple(self._warnings),
            not_tested=tuple(self._not_tested),
            timings={name: round(seconds, 3) for name, seconds in self._timings.items()},
            **self.fields,
        )
