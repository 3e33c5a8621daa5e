"""What a report is shown on; files ignore it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Display:
    """Where a report goes: never guessed by a renderer."""

    width: int = 100
    """Columns."""
    colour: bool = False
    """Whether escape sequences for colours may be written."""
    page: str = ""
    """Where the page with the whole report of each model is, relative to this one; empty where there is none."""
