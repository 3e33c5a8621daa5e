"""What workers tell while they scan: kept where they can reach it until the one who asked for the scans takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backscan.scanner.store.journal_mirror import Change


@dataclass(frozen=True, slots=True)
class Said:
    """A message or a warning."""

    text: str
    """One line."""
    is_warning: bool = False
    """Whether it weakens the evidence."""


Event = Change | Said


class Ledger:
    """Events by the attempt that they belong to."""

    def __init__(self) -> None:
        """Begin empty."""
        self._events: list[tuple[str, Event]] = []

    def post(self, attempt: str, events: Sequence[Event]) -> None:
        """Keep events of an attempt."""
        self._events += [(attempt, event) for event in events]

    def take(self) -> list[tuple[str, Event]]:
        """All events since the last call, in their order."""
        taken, self._events = self._events, []
        return taken
