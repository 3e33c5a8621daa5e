"""What a scan tells while it runs: the pipeline reports to an observer and knows no terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from backscan.scanner.results import PairResult


class Progress(Protocol):
    """Observer of a scan. Nothing a scan finds depends on it."""

    def phase(self, name: str) -> None:
        """A step begins, such as `import` or `optimise`."""

    def plan(self, detector: str, num_pairs: int, seconds_estimate: float | None) -> None:
        """A detector begins to search: class pairs to do and about how long that takes, None if unknown."""

    def estimate(self, seconds: float, seconds_left: float, *, seconds_more: float = 0.0) -> None:
        """About how long the whole scan takes, what is done already counted, and how long from now on.

        Args:
            seconds: All of it.
            seconds_left: From now on.
            seconds_more: What comes on top if something stands out.
        """

    def pair(self, result: PairResult, images: int) -> None:
        """One pair is finished; `images` went through the model for it (0 if it came from a journal)."""

    def message(self, text: str) -> None:
        """Something a user may want to know."""

    def warn(self, text: str) -> None:
        """Something that weakens the evidence or needs a decision."""


class SilentProgress:
    """Tells nothing: for the library and for tests."""

    def phase(self, name: str) -> None:
        """Ignored."""

    def plan(self, detector: str, num_pairs: int, seconds_estimate: float | None) -> None:
        """Ignored."""

    def estimate(self, seconds: float, seconds_left: float, *, seconds_more: float = 0.0) -> None:
        """Ignored."""

    def pair(self, result: PairResult, images: int) -> None:
        """Ignored."""

    def message(self, text: str) -> None:
        """Ignored."""

    def warn(self, text: str) -> None:
        """Ignored."""
