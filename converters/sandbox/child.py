"""The child's side of `sandbox`: run as a script, it gives up its rights, then serves calls until its end.

Settings come as one JSON argument. Only the standard library is imported before `confinement` has run, and that file
is run by its path, for importing it as a part of the package would import numerical libraries first.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import math
import resource
import runpy
import sys
import traceback
from pathlib import Path
from types import GeneratorType
from typing import Any

_ALLOCATION_FAILURES = (
    "bad_alloc",
    "can't allocate memory",
    "not enough memory",
    "failed to allocate",
    "out of memory",
)
"""How C++ libraries say that memory ran out; Python itself raises MemoryError."""


def main(settings: dict[str, Any]) -> None:
    """Give up rights, import and construct the target, then answer calls."""
    faulthandler.enable()
    confine = runpy.run_path(str(Path(__file__).with_name("confinement.py")))["confine"]
    active, missing = confine(settings["limits"], settings["scratch"], settings["parent"])
    sys.path[:] = settings["path"]

    from backscan.converters.sandbox.wire import Channel  # not before the lines above

    channel = Channel(settings["requests"], settings["answers"], max_bytes=sys.maxsize)
    try:
        _limit_cpu(settings["start_cpu_seconds"])
        target = load(settings["target"])
    except Exception as error:
        channel.send(_describe(error))
        return
    channel.send({"kind": "ready", "active": active, "missing": missing})
    while True:
        try:
            request = channel.receive()
        except EOFError:
            return
        _serve(target, request, channel)


def load(target: str) -> Any:
    """Import and construct `package.module:Class`."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)()


def _serve(target: Any, request: dict[str, Any], channel: Any) -> None:
    _limit_cpu(request["cpu_seconds"])
    try:
        outcome = getattr(target, request["method"])(request["message"])
        if isinstance(outcome, GeneratorType):
            outcome = exhaust(outcome, lambda event: channel.send({"kind": "event", "message": event}))
        channel.send({"kind": "result", "message": outcome})
    except Exception as error:
        channel.send(_describe(error))


def exhaust(events: Any, report: Any) -> Any:
    """Run a generator to its end, hand every event to `report`, and return the generator's value."""
    while True:
        try:
            event = next(events)
        except StopIteration as stop:
            return stop.value
        report(event)


def _limit_cpu(seconds: int | None) -> None:
    """Let the system end this process after so many more seconds of CPU time."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = math.ceil(usage.ru_utime + usage.ru_stime)
    soft = resource.RLIM_INFINITY if seconds is None else used + seconds
    if hard != resource.RLIM_INFINITY and (soft == resource.RLIM_INFINITY or soft > hard):
        soft = hard
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _describe(error: Exception) -> dict[str, Any]:
    kind = type(error)
    text = str(error)
    fields = {name: value for name, value in vars(error).items() if _is_plain(value)}
    return {
        "kind": "error",
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "text": text,
        "fields": fields,
        "memory": isinstance(error, MemoryError) or any(phrase in text.lower() for phrase in _ALLOCATION_FAILURES),
        "traceback": "".join(traceback.format_exception(error)),
    }


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, str | int | float)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
