"""How long a task may take in all: one clock that every call into a sandbox asks, and every long loop outside of one.

The clock belongs to the context of the task, as an alarm would: whatever starts a child process meanwhile is under it
without being told. A child that is at work when the time is up is ended.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path


def now() -> float:
    """Seconds on the monotonic clock."""
    return time.monotonic()


@dataclass(frozen=True, slots=True)
class Clock:
    """The time of a task."""

    limit: float = math.inf
    """Seconds that it may take; infinite without a limit."""
    began: float = 0.0
    """When it began, on the monotonic clock."""
    kept: float = 0.0
    """Seconds of these that are kept for what comes afterwards."""
    spared: float = 0.0
    """Seconds that work is asked to leave to other work as well; nothing is ended for them."""

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit."""
        return math.isfinite(self.limit)

    def left(self) -> float:
        """Seconds that are left, 0 once the time is up; infinite without a limit."""
        return max(0.0, self.began + self.limit - self.kept - now()) if self.is_limited else math.inf

    def left_for_work(self) -> float:
        """What of it work may plan with."""
        return max(0.0, self.left() - self.spared)

    def seconds(self, share: float = 1.0) -> float | None:
        """A share of what is left, as requests have it: None without a limit."""
        return share * self.left() if self.is_limited else None


_UNLIMITED = Clock()
_CLOCK: ContextVar[Clock] = ContextVar("clock", default=_UNLIMITED)


def clock() -> Clock:
    """The clock of this task; one without a limit where there is none."""
    return _CLOCK.get()


@contextmanager
def time_limit(seconds: float | None, *, began: float | None = None) -> Iterator[Clock]:
    """Limit what happens inside; where a limit holds already that one stays.

    Args:
        seconds: How long it may take; None sets no limit.
        began: When it began, on the monotonic clock; by default now.
    """
    if seconds is None or clock().is_limited:
        yield clock()
        return
    token = _CLOCK.set(Clock(seconds, now() if began is None else began))
    try:
        yield clock()
    finally:
        _CLOCK.reset(token)


@contextmanager
def keeping(seconds: float) -> Iterator[Clock]:
    """Let what happens inside end earlier by some seconds, which what comes afterwards needs."""
    token = _CLOCK.set(replace(clock(), kept=clock().kept + seconds))
    try:
        yield clock()
    finally:
        _CLOCK.reset(token)


@contextmanager
def sparing(seconds: float) -> Iterator[Clock]:
    """Ask what happens inside to leave some seconds to other work; nothing is ended for them."""
    token = _CLOCK.set(replace(clock(), spared=seconds))
    try:
        yield clock()
    finally:
        _CLOCK.reset(token)


def process_began() -> float:
    """When this process began, on the monotonic clock; where the system does not tell, what it computed ago."""
    with suppress(OSError, ValueError, IndexError, AttributeError):
        # The name in parentheses may hold spaces; the start is the 22nd field, in ticks since the machine started.
        fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        ago = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
        if ago >= 0.0:
            return now() - ago
    return now() - time.process_time()
