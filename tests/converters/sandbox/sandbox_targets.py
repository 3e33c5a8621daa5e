# ruff: noqa: D102 - the names tell
"""Objects that tests put into the sandbox: honest ones, and ones that do what a taken-over child would."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

Message = dict[str, Any]


class ForeseenError(Exception):
    """Root of the error tree that the tests make known."""

    severity = 3

    def __init__(self, message: str, *, node: str, limits: list[int]) -> None:
        super().__init__(message)
        self.node = node
        self.limits = limits
        self.unsendable = object()


class SpecialForeseenError(ForeseenError):
    """An error below the root."""


class Honest:
    """Does as it is told."""

    def __init__(self) -> None:
        self.count = 0

    def echo(self, message: Message) -> Message:
        return message

    def remember(self, message: Message) -> Message:
        self.count += message["add"]
        return {"count": self.count, "process": os.getpid(), "torch": "torch" in sys.modules}

    def stream(self, message: Message) -> Generator[Message, None, Message]:
        for step in range(message["steps"]):
            yield {"step": step, "array": np.full(3, step)}
        return {"steps": message["steps"]}

    def trickle(self, message: Message) -> Generator[Message, None, Message]:
        for _ in range(message["steps"]):
            time.sleep(message["seconds"])
            yield {}
        return {}

    def cpu_time(self, _: Message) -> Message:
        return {"seconds": time.process_time()}

    def work(self, message: Message) -> Message:
        start = time.process_time()
        while time.process_time() - start < message["seconds"]:
            pass
        return {}

    def big(self, message: Message) -> Message:
        return {"array": np.zeros(message["bytes"], np.uint8)}

    def surroundings(self, _: Message) -> Message:
        return {
            "environment": dict(os.environ),
            "folder": os.getcwd(),
            "path": sys.path,
            "descriptors": [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if _is_open(n)],
            "threads": threading.active_count(),
        }


class Failing:
    """Raises."""

    def foreseen(self, _: Message) -> Message:
        raise SpecialForeseenError("expected a cat, found a dog", node="Conv_1", limits=[1, 2])

    def overriding(self, _: Message) -> Message:
        error = SpecialForeseenError("no", node="Conv_1", limits=[])
        error.severity = 0
        raise error

    def unforeseen(self, _: Message) -> Message:
        raise ZeroDivisionError("this is a defect")

    def unsendable(self, _: Message) -> Message:
        return {"answer": object()}

    def out_of_memory(self, _: Message) -> Message:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 TB")


class Unconstructible:
    """Cannot be constructed."""

    def __init__(self) -> None:
        raise SpecialForeseenError("no", node="", limits=[])


class Hostile:
    """What a taken-over or overwhelmed child may do."""

    def die(self, message: Message) -> Message:
        os.kill(os.getpid(), getattr(signal, message["signal"]))
        time.sleep(60)
        return {}

    def leave(self, message: Message) -> Message:
        os._exit(message["code"])

    def crash(self, _: Message) -> Message:
        return {"byte": ctypes.string_at(0)}

    def fill_memory(self, _: Message) -> Message:
        hoard = []
        while True:
            hoard.append(np.ones(1 << 22))

    def reserve_memory(self, message: Message) -> Message:
        return {"size": len(mmap.mmap(-1, message["bytes"]))}

    def spin(self, _: Message) -> Message:
        while True:
            pass

    def sleep(self, _: Message) -> Message:
        time.sleep(600)
        return {}

    def stop_itself(self, _: Message) -> Message:
        os.kill(os.getpid(), signal.SIGSTOP)
        return {}

    def talk_over_the_wire(self, message: Message) -> Message:
        for number in os.listdir("/proc/self/fd"):
            if int(number) > 2 and _is_open(number) and os.readlink(f"/proc/self/fd/{number}").startswith("pipe:"):
                try:
                    os.write(int(number), message["bytes"])
                except OSError:
                    continue
        time.sleep(60)
        return {}

    def chatter(self, message: Message) -> Message:
        os.write(1, b"x" * message["bytes"])
        os.write(2, b"the last words")
        return {}

    def attempt(self, message: Message) -> Message:
        """Try something that should be refused; say how that went."""
        try:
            getattr(self, "_" + message["what"])(message.get("path"))
        except OSError as error:
            return {"refused": type(error).__name__, "text": str(error)}
        return {"refused": None}

    def _connect(self, _: str) -> None:
        socket.create_connection(("127.0.0.1", 9), timeout=1)

    def _open_unix_socket(self, _: str) -> None:
        socket.socket(socket.AF_UNIX)

    def _run(self, _: str) -> None:
        subprocess.run(["true"], check=True)

    def _fork(self, _: str) -> None:
        if os.fork() == 0:
            os._exit(0)

    def _make_file(self, path: str) -> None:
        Path(path).write_text("here")

    def _truncate(self, path: str) -> None:
        os.truncate(path, 0)

    def _remove(self, path: str) -> None:
        os.unlink(path)

    def _change_mode(self, path: str) -> None:
        os.chmod(path, 0o700)

    def _make_folder(self, path: str) -> None:
        os.mkdir(path)

    def _link(self, path: str) -> None:
        os.symlink("/etc/passwd", path)

    def _signal_parent(self, _: str) -> None:
        os.kill(os.getppid(), signal.SIGTERM)

    def _write_scratch(self, _: str) -> None:
        Path("note.txt").write_text("allowed")

    def _write_large_file(self, _: str) -> None:
        with Path("large").open("wb") as file:
            for _block in range(64):
                file.write(bytes(1 << 20))

    def _open_many_files(self, _: str) -> None:
        self.files = [Path("/dev/null").open() for _ in range(5000)]  # noqa: SIM115 - they are to pile up

    def _start_thread(self, _: str) -> None:
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()


def _is_open(number: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{number}")
