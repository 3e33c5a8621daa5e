"""Workers that are killed while they scan."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TITLE = "ray::run_task"
"""How Ray calls a process that scans."""


def scanning_workers() -> list[int]:
    """Processes beneath this one that scan a model now."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            title = (folder / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace").strip()
            if title == _TITLE and os.getpid() in _ancestors(int(folder.name)):
                found.append(int(folder.name))
    return found


def _ancestors(process: int) -> set[int]:
    found: set[int] = set()
    while process > 1 and process not in found:
        found.add(process)
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        process = int(fields[1])
    return found


@contextmanager
def killing(seconds: float, *, seed: int = 0) -> Iterator[list[int]]:
    """Kill one of the workers every so many seconds; gives the list of those that were."""
    ended, killed, rng = threading.Event(), list[int](), random.Random(seed)  # noqa: S311 - whom it meets is no secret

    def kill() -> None:
        while not ended.wait(seconds):
            if workers := scanning_workers():
                killed.append(rng.choice(sorted(workers)))
                with suppress(ProcessLookupError):
                    os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()
