"""The steps of what comes after a verdict: told to an observer, their seconds kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from backscan.scanner.progress import Progress, SilentProgress


class Steps:
    """Observer and clock."""

    def __init__(self, progress: Progress | None = None) -> None:
        self.progress = progress or SilentProgress()
        """Is told each step."""
        self.timings: dict[str, float] = {}
        """Seconds of each."""

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A named step."""
        self.progress.phase(name)
        started = time.monotonic()
        try:
            yield
        finally:
            self.timings[name] = round(time.monotonic() - started, 3)
