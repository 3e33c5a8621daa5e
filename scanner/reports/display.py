"""What a report is shown on; files ignore it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Display:
    """Where a report goes: never guessed by a renderer."""

    width: int = 100
    """Columns."""
    colour: bool = False
    """Whether escape sequences for colours may be written."""
