"""What runs the methods of one object, here or in a child process: the interface, and the plain one for debugging."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import GeneratorType
from typing import Any, Protocol

from backscan.converters.sandbox import child
from backscan.converters.sandbox.clock import clock
from backscan.converters.sandbox.errors import late
from backscan.converters.sandbox.limits import PhaseLimits
from backscan.converters.sandbox.wire import Message, copy

Report = Callable[[Message], None]


@dataclass(frozen=True, slots=True)
class Protections:
    """What holds around the child."""

    active: tuple[str, ...]
    """What the child cannot do; a sentence each."""
    missing: tuple[str, ...]
    """What this system could not give, and why."""


class Runner(Protocol):
    """What holds the target: a `Sandbox`, or `InProcess` for debugging."""

    protections: Protections

    def call(
        self, method: str, message: Message, *, limits: PhaseLimits | None = None, on_event: Report | None = None
    ) -> Message:
        """Run one method of the target."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class InProcess:
    """The interface of `Sandbox` without a child and without limits: for debugging only."""

    def __init__(self, target: str, **_: Any) -> None:
        self._target = child.load(target)
        self.protections = Protections((), ("everything: the artifact is handled in the scanner's own process",))

    def call(
        self, method: str, message: Message, *, limits: PhaseLimits | None = None, on_event: Report | None = None
    ) -> Message:
        """Run one method of the target; messages are copied as they are over a pipe. Nothing here can end it early."""
        if not clock().left():
            raise late((limits or PhaseLimits()).name, clock().limit)
        outcome = getattr(self._target, method)(copy(message))
        if isinstance(outcome, GeneratorType):
            outcome = child.exhaust(outcome, lambda event: on_event and on_event(copy(event)))
        return copy(outcome)

    def close(self) -> None:
        """Forget the target."""
        self._target = None
