"""The space that was searched, in words for reports: what a pattern does there, and what its size measures."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from backscan.scanner.results.base import STRICT


@dataclass(frozen=True, slots=True, config=STRICT)
class SpaceRecord:
    """A way other than adding in which the patterns of a scan change images (`--space`)."""

    name: str
    """Its name, which conclusions and patterns carry."""
    about: str
    """What a pattern does, as a clause."""
    unit: str
    """What a size is the norm of."""
    limit: str
    """The largest pattern that is tried, as a clause."""
    card: str
    """What the pictures of patterns are the change of."""
