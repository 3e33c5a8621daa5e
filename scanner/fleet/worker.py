"""What a worker does: lay out one model, scan it as a machine by itself would, and send its journal as it grows."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from backscan.scanner.choices import registered
from backscan.scanner.errors import UserError
from backscan.scanner.fleet.ledger import Event, Said
from backscan.scanner.fleet.one_model import scan_heads
from backscan.scanner.fleet.order import Order
from backscan.scanner.fleet.outcome import Failure, Outcome
from backscan.scanner.pipeline.ends import Interrupted
from backscan.scanner.pipeline.provenance import version
from backscan.scanner.progress import Progress, SilentProgress
from backscan.scanner.store.journal_mirror import JournalTail, unpack

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.fleet.parcel import Parcel
    from backscan.scanner.images.cleanset import CleanSet
    from backscan.scanner.results import ScanResult

Post = Callable[[Sequence[Event]], None]

_SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is told beside the model and its images."""

    name: str
    """What reports call the model."""
    folder: str
    """Where it lies for the user, for messages."""
    journal: str
    """Where its journal lies for the user, for messages."""
    config: ScanConfig
    """Options of the scan."""
    class_names: Sequence[str] | None
    """Names of the classes."""
    command: str
    """Command that repeats the scan."""
    extensions: Sequence[tuple[str, str]]
    """Table and import path of all that the program registered."""
    version: str
    """Version of the scanner that asks."""


class Posting(SilentProgress):
    """Sends messages and warnings."""

    def __init__(self, post: Post, told: Callable[[str], str]) -> None:
        """Send by `post` what `told` makes of a text."""
        self._post = post
        self._told = told

    def message(self, text: str) -> None:
        """Send it."""
        self._post([Said(self._told(text))])

    def warn(self, text: str) -> None:
        """Send it as a warning."""
        self._post([Said(self._told(text), is_warning=True)])


def scan_parcel(
    parcel: Parcel, clean: CleanSet | None, kept: Mapping[str, bytes], task: Task, post: Post, *, threads: int
) -> Outcome:
    """Scan a model that was sent, from what its journal holds already.

    Args:
        parcel: The model.
        clean: Its images.
        kept: Files of its journal.
        task: What else there is to know.
        post: Sends what is to be known before the end.
        threads: Processors that this worker has for it.
    """
    with TemporaryDirectory(prefix="backscan-") as scratch:
        model_folder, journal = Path(scratch) / "model", Path(scratch) / "journal"
        for folder in (model_folder, journal):
            folder.mkdir()

        def told(text: str) -> str:
            return text.replace(str(journal), task.journal).replace(str(model_folder), task.folder)

        results: list[ScanResult] = []
        try:
            _prepare(task)
            model = parcel.unpack(model_folder)
            unpack(journal, kept)
            order = _order(task, clean, Posting(post, told), resume=bool(kept), threads=threads)
            with _sending(journal, post):
                for result in scan_heads(model, order, journal, name=task.name):
                    results.append(_as_ordered(result, task.config))  # noqa: PERF401 - those before a failure stay
        except Interrupted as end:  # this process is to end, and the model to go on elsewhere
            raise KeyboardInterrupt from end
        except Exception as error:
            failure = Failure.of(error, traceback.format_exc())
            left = failure.result and _as_ordered(failure.result, task.config)
            return Outcome(tuple(results), replace(failure, message=told(failure.message), result=left))
        return Outcome(tuple(results))


def _prepare(task: Task) -> None:
    """Make this process one that gives what the asking one would.

    Raises:
        UserError: another version is installed here.
    """
    if task.version != version():
        raise UserError(
            f"expected backscan {task.version} on every node of the cluster, found {version()} on "
            f"{os.uname().nodename}: install the same version"
        )
    for entry in task.extensions:
        if entry not in registered.every():
            registered.register(*entry)


def _order(task: Task, clean: CleanSet | None, observer: Progress, *, resume: bool, threads: int) -> Order:
    @contextmanager
    def observe(about: str) -> Iterator[Progress]:
        del about  # the one who asked knows
        yield observer

    return Order(
        replace(task.config, threads=task.config.threads or threads),
        clean,
        class_names=task.class_names,
        resume=resume,
        command=task.command,
        observe=observe,
    )


def _as_ordered(result: ScanResult, config: ScanConfig) -> ScanResult:
    """A result with the options of the order: how many threads a worker has changes nothing else."""
    return replace(result, config={**result.config, "threads": config.threads})


@contextmanager
def _sending(journal: Path, post: Post) -> Iterator[None]:
    """Send what is new in a journal while something goes on, and at its end."""
    tail, ended = JournalTail(journal), threading.Event()

    def send() -> None:
        if changes := tail.changes():
            post(changes)

    def watch() -> None:
        while not ended.wait(_SECONDS_BETWEEN_LOOKS):
            send()

    watcher = threading.Thread(target=watch, name="journal", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        send()
