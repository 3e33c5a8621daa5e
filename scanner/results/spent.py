"""How a scan under a time limit spent its time, and what it left to do."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from backscan.scanner.results.base import STRICT


@dataclass(frozen=True, slots=True, config=STRICT)
class LeftToSearch:
    """What one detector was to search when the time was up."""

    detector: str
    """Name in the table of detectors."""
    unit: str
    """What it searches one by one: `class pair` or `target class`."""
    number: int
    """How many are left."""
    planned: int
    """How many there were to search."""


@dataclass(frozen=True, slots=True, config=STRICT)
class TimeRecord:
    """The clock of `--time-limit`."""

    limit: float
    """Seconds that the scan might take."""
    taken: float
    """Seconds that it took, from the start of the command to the report."""
    estimate: float | None
    """Seconds that the whole scan takes on this machine, as was estimated before its search; None before that."""
    ended_the_scan: bool
    """Whether the limit ended a part of it."""
    left: tuple[LeftToSearch, ...] = ()
    """What was left to search."""
    seconds_left: float | None = None
    """About how long that takes; None if nothing was left, or it is not known."""
