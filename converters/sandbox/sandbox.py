"""One child process that holds everything which touches the artifact, and runs it under limits.

The child lives for the whole scan of one model. It is a fresh interpreter that gives up network, programs, processes
and all writing but into its scratch folder (`confinement`), and answers calls with plain data (`wire`). Whatever
happens to it, the caller gets a typed error and stays alive.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
import weakref
from collections.abc import Sequence
from typing import Never

from backscan.converters.sandbox.clock import clock
from backscan.converters.sandbox.errors import (
    SandboxDiedError,
    SandboxError,
    died,
    error_kinds,
    exceeded,
    explained,
    late,
    told_error,
)
from backscan.converters.sandbox.limits import START, Limits, PhaseLimits
from backscan.converters.sandbox.runner import InProcess, Protections, Report, Runner
from backscan.converters.sandbox.spawn import spawn
from backscan.converters.sandbox.wire import Channel, Message, WireError

__all__ = ["InProcess", "Protections", "Runner", "Sandbox"]

_POLL_SECONDS = 0.05
_OUTPUT_BYTES = 1 << 16
"""What is kept of the end of the child's terminal output."""
_ANSWERS: dict[str, dict[str, type]] = {
    "ready": {"active": list, "missing": list},
    "event": {"message": dict},
    "result": {"message": dict},
    "error": {"class": str, "text": str, "fields": dict, "memory": bool, "traceback": str},
}
"""The parts of each kind of answer of the child."""


class Sandbox:
    """A child process that holds one object and runs its methods under limits.

    A method of the target takes a message and returns one, or is a generator that yields messages (events) and
    returns one. After a `SandboxError` the child is gone, and so is the object.
    """

    def __init__(
        self,
        target: str,
        *,
        limits: Limits | None = None,
        threads: int | None = None,
        errors: Sequence[type[Exception]] = (),
        start: PhaseLimits = START,
    ) -> None:
        """Start the child, and construct the target in it.

        Args:
            target: `package.module:Class`, constructed without arguments.
            limits: What the child may use over its whole life.
            threads: Threads of numerical libraries in the child; None leaves it to them.
            errors: Roots of the error trees whose errors come back as what they are, with their fields.
            start: Limits of the start.

        Raises:
            SandboxError: the child could not start within its limits.
            UnexpectedError: the target cannot be imported or constructed.
        """
        self._limits = limits or Limits()
        self._errors = error_kinds(errors)
        self._phase = start
        self._output = b""
        self._is_late = False
        self._child = spawn(target, self._limits, threads=threads, cpu_seconds=start.cpu_seconds)
        self._end = weakref.finalize(self, self._child.end)
        self._channel = Channel(
            self._child.answers, self._child.requests, max_bytes=self._limits.message_bytes, wait=self._wait
        )
        self._begin(start)
        ready = self._answer(None)
        self.protections = Protections(tuple(ready["active"]), tuple(ready["missing"]))

    def call(
        self, method: str, message: Message, *, limits: PhaseLimits | None = None, on_event: Report | None = None
    ) -> Message:
        """Run one method of the target.

        Args:
            method: Its name.
            message: Its argument.
            limits: What this call may use, by default `PhaseLimits()`.
            on_event: Takes the events of a streaming method; an error that it raises ends the child.

        Returns:
            What the method returned.

        Raises:
            ResourceLimitError: the call used more than it may.
            TimeUpError: the time of the whole task was up before, or meanwhile, which ends the child.
            SandboxDiedError: the child died, or answered with something that is no message.
            UnexpectedError: the target raised an error that is not of the known kinds.
            Exception: an error of the known kinds, as the target raised it.
        """
        phase = limits or PhaseLimits()
        if self._is_late or not clock().left():
            raise late(phase.name, clock().limit)
        if not self._end.alive:
            raise SandboxDiedError(
                f"the sandbox has ended, so it cannot run phase {phase.name!r}: start another",
                phase=phase.name,
                reason="ended earlier",
            )
        self._begin(phase)
        request = {"method": method, "cpu_seconds": phase.cpu_seconds, "message": message}
        try:
            self._channel.send(request)
        except BrokenPipeError:
            self._explain_end()
        except BaseException:
            self.close()
            raise
        result: Message = self._answer(on_event)["message"]
        return result

    def close(self) -> None:
        """End the child with all it started, and remove its scratch folder."""
        self._end()

    def _begin(self, phase: PhaseLimits) -> None:
        self._phase = phase
        self._began = self._heard = time.monotonic()

    def _answer(self, on_event: Report | None) -> Message:
        """Take events until the answer is there, and raise what it tells."""
        try:
            while (answer := _checked(self._channel.receive()))["kind"] == "event":
                self._heard = time.monotonic()
                if on_event:
                    on_event(answer["message"])
        except EOFError:
            self._explain_end()
        except WireError as error:
            sentence = f"answered with bytes that are no message ({error})"
            self._end_with(died(self._phase.name, "garbage", sentence, self._output))
        except BaseException:
            self.close()  # it is in the middle of something, and nobody waits for that
            raise
        if answer["kind"] == "error":
            self._raise(answer)
        return answer

    def _wait(self, descriptor: int) -> None:
        """Wait a moment for a pipe, and look after the child meanwhile."""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN | select.POLLOUT)
        poll.register(self._child.terminal, select.POLLIN)
        poll.poll(_POLL_SECONDS * 1000)
        self._drain()
        if not clock().left():
            self._is_late = True
            self._end_with(late(self._phase.name, clock().limit))
        now = time.monotonic()
        for resource, used, limit in (
            ("wall_seconds", now - self._began, self._phase.wall_seconds),
            ("silence_seconds", now - self._heard, self._phase.silence_seconds),
            ("memory_bytes", self._child.resident_bytes(), self._memory_limit),
        ):
            if limit is not None and used > limit:
                self._end_with(exceeded(self._phase.name, resource, limit, used))

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._child.terminal, _OUTPUT_BYTES):
                self._output = (self._output + chunk)[-_OUTPUT_BYTES:]

    @property
    def _memory_limit(self) -> int:
        return min(self._limits.memory_bytes, self._phase.memory_bytes or self._limits.memory_bytes)

    def _raise(self, answer: Message) -> Never:
        if answer["memory"]:
            self._end_with(exceeded(self._phase.name, "memory_bytes", self._memory_limit, None))
        raise told_error(answer, self._errors, self._phase.name)

    def _explain_end(self) -> Never:
        """The pipe is closed: say why the child ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.process.wait(timeout=5)
        self._drain()
        self._end_with(explained(self._child.process.returncode, self._output, self._phase, self._memory_limit))

    def _end_with(self, error: SandboxError) -> Never:
        self.close()
        raise error


def _checked(answer: Message) -> Message:
    """The answer, if it is of a known kind and has all its parts."""
    parts = _ANSWERS.get(str(answer.get("kind")))
    if parts is None or not all(isinstance(answer.get(name), kind) for name, kind in parts.items()):
        raise WireError(f"expected an answer of a known kind with all its parts, found {sorted(answer)}")
    return answer
