"""Models as tasks of a Ray cluster: so many at a time, each begun again from its journal when its worker is lost.

The bytes of a model and the images lie in the object store as long as its scan may need them. Workers write journals of
their own and send what is new (`ledger`); the copies here, one for each model, are what a scan goes on from, here or
elsewhere. Ray itself repeats nothing: it would begin from nothing.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from backscan.scanner.choices import registered
from backscan.scanner.errors import NoVerdictError, OptionError, ScanError
from backscan.scanner.fleet.cluster import Cluster, joined
from backscan.scanner.fleet.ledger import Ledger, Said
from backscan.scanner.fleet.one_model import images_of, journal_of, name_of, scan_heads
from backscan.scanner.fleet.order import Order, Scans, Workers
from backscan.scanner.fleet.outcome import Failure, Outcome
from backscan.scanner.fleet.parcel import Parcel, pack
from backscan.scanner.fleet.unfinished import unfinished
from backscan.scanner.fleet.worker import Task, scan_parcel
from backscan.scanner.pipeline.ends import Interrupted
from backscan.scanner.pipeline.provenance import version
from backscan.scanner.results import ScanResult, Verdict
from backscan.scanner.store.journal_mirror import JournalMirror

if TYPE_CHECKING:
    from backscan.scanner.images.cleanset import CleanSet
    from backscan.scanner.progress import Progress

# Tasks that wait for a worker, for each that has one: it finds the next model in the store.
_WAITING = 1
_SECONDS_BETWEEN_LOOKS = 1.0


def scans(paths: Sequence[Path], order: Order, workers: Workers) -> Scans:
    """Models in their order as they are done.

    Raises:
        OptionError: Ray is not installed, or an option does not go with it.
        UserError: no cluster answers.
    """
    if order.cache is not None:
        raise OptionError("expected no --cache with --executor ray, which finds nothing there: leave it out")
    with ExitStack() as opened:
        cluster = opened.enter_context(joined(workers.address))
        progress = opened.enter_context(order.observe(""))
        folder = order.journal or Path(opened.enter_context(TemporaryDirectory(prefix="backscan-")))
        fleet = Fleet(cluster, order, workers, folder, progress)
        opened.callback(fleet.close)
        yield from fleet.scans(paths)


@dataclass(slots=True)
class _Job:
    """A model that was sent."""

    number: int
    """Its place among all."""
    path: Path
    """The file."""
    name: str
    """What reports call it."""
    sent: tuple[Any, Any]
    """The model and its images in the object store."""
    journal: JournalMirror
    """What is known of it here."""
    folder: Path
    """Where that lies."""
    attempts: int = 0
    """How often it was begun."""
    lost: int = 0
    """How often in a row its worker was lost without having finished a chunk of pairs."""
    has_news: bool = False
    """Whether the worker that has it finished a chunk of pairs."""

    @property
    def attempt(self) -> str:
        """What the worker that has it now signs with."""
        return f"{self.number}.{self.attempts}"


class Fleet:
    """The models that are on their way."""

    def __init__(self, cluster: Cluster, order: Order, workers: Workers, journal: Path, progress: Progress) -> None:
        """Make ready what all tasks share.

        Args:
            cluster: Where they run.
            order: What is to be done with each model.
            workers: How often one may be lost.
            journal: Folder of the journals.
            progress: Observer of all.
        """
        self._ray, self._cluster = cluster.ray, cluster
        self._order, self._workers, self._journal, self._progress = order, workers, journal, progress
        self._needs = cluster.needs(order.config.device, order.config.threads)
        self._ledger = self.ledger(cluster.ray)
        self._task = cluster.ray.remote(run_task).options(
            num_cpus=self._needs.processors, num_gpus=self._needs.gpus, max_retries=0, scheduling_strategy="SPREAD"
        )
        self._running: dict[Any, _Job] = {}
        self._images: Any = None
        if not cluster.room(self._needs):
            progress.warn(
                f"no node of the cluster has {self._needs.processors} processors and {self._needs.gpus} graphics cards "
                "for a scan: waiting until one joins (--threads, --device)"
            )

    @staticmethod
    def ledger(ray: Any) -> Any:
        """The place where workers post, which the cluster begins again where its node is lost."""
        kind = ray.remote(Ledger).options(num_cpus=0, max_restarts=-1, max_task_retries=-1)
        return kind.remote()

    def scans(self, paths: Sequence[Path]) -> Scans:
        """Models in their order as they are done; those that are done when another ends all come before it."""
        waiting, done, next_ = deque(enumerate(paths)), dict[int, Outcome](), 0
        try:
            while next_ < len(paths):
                self._fill(waiting, done, alone=len(paths) == 1)
                self._advance(done)
                if failed := [number for number in done if done[number].ends_all]:
                    yield from self._finished(paths, done, last=min(failed))
                    return
                while next_ in done:
                    yield paths[next_], done.pop(next_).replayed()
                    next_ += 1
        except KeyboardInterrupt:
            yield from self._finished(paths, done)
            first = min((number for number in range(next_, len(paths)) if number not in done), default=None)
            if first is None:
                raise
            yield paths[first], self._interrupted(paths[first])

    def close(self) -> None:
        """End what is still running."""
        for ref in self._running:
            with suppress(Exception):
                self._ray.cancel(ref, force=True)
        for job in self._running.values():
            job.journal.close()
        self._running.clear()

    def _finished(self, paths: Sequence[Path], done: Mapping[int, Outcome], last: int | None = None) -> Scans:
        """What is done, in order; the one that ends all last."""
        order = [number for number in sorted(done) if not done[number].ends_all]
        for number in [*order, *([] if last is None else [last])]:
            yield paths[number], done[number].replayed()

    def _interrupted(self, path: Path) -> Iterator[ScanResult]:
        reason = "the scan was interrupted"
        raise Interrupted(unfinished(path, name_of(path), self._order, Verdict.INCONCLUSIVE, reason))
        yield  # a generator, as results are

    def _fill(self, waiting: deque[tuple[int, Path]], done: dict[int, Outcome], *, alone: bool) -> None:
        """Send models until as many are on their way as the cluster has room for, and as many again."""
        most = (1 + _WAITING) * max(1, self._cluster.room(self._needs))
        while waiting and len(self._running) < most:
            number, path = waiting.popleft()
            try:
                sent = self._send(pack(path, sandbox=self._order.config.sandbox), path)
                folder = self._journal if alone else journal_of(path, self._journal) or self._journal
                journal = JournalMirror(folder, resume=self._order.resume)
            except NoVerdictError:  # refused before it is read, which takes no worker
                done[number] = Outcome(tuple(scan_heads(path, self._order, None)))
            except ScanError as error:
                done[number] = Outcome(failure=Failure.of(error))
                return
            else:
                self._begin(_Job(number, path, name_of(path), sent, journal, folder))

    def _send(self, parcel: Parcel, path: Path) -> tuple[Any, Any]:
        """A model and its images in the object store; images of all models once."""
        if self._order.images is None:
            images = self._ray.put(images_of(path, self._order))
        elif self._images is None:
            images = self._images = self._ray.put(images_of(path, self._order))
        else:
            images = self._images
        return self._ray.put(parcel), images

    def _begin(self, job: _Job) -> None:
        order = self._order
        job.attempts, job.has_news = job.attempts + 1, False
        task = Task(
            job.name,
            str(job.path.parent),
            str(job.folder),
            order.config,
            order.class_names,
            order.command,
            registered.every(),
            version(),
        )
        ref = self._task.remote(*job.sent, job.journal.content(), task, (self._ledger, job.attempt))
        self._running[ref] = job

    def _advance(self, done: dict[int, Outcome]) -> None:
        """Wait a little, take what workers sent, and what became of those that ended."""
        if not self._running:
            return
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_SECONDS_BETWEEN_LOOKS)
        self._collect()
        for ref in ready:
            job = self._running.pop(ref)
            outcome = self._outcome(ref, job)
            if outcome is None:
                self._begin(job)
                continue
            job.journal.close()
            done[job.number] = outcome

    def _collect(self) -> None:
        """What workers sent; of those that are taken for lost nothing more."""
        current = {job.attempt: job for job in self._running.values()}
        for attempt, event in self._ray.get(self._ledger.take.remote()):
            job = current.get(attempt)
            if job is None:
                continue
            if isinstance(event, Said):
                (self._progress.warn if event.is_warning else self._progress.message)(f"{job.name}: {event.text}")
            else:
                job.journal.take([event])
                job.has_news |= event.lasts

    def _outcome(self, ref: Any, job: _Job) -> Outcome | None:
        """What became of a model; None if it is to be begun again."""
        try:
            outcome: Outcome = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            return Outcome(failure=Failure("", f"a worker failed over {job.name}: {error.cause!r}", trace=str(error)))
        except self._ray.exceptions.RayError as error:
            return self._lost(job, type(error).__name__)
        return outcome

    def _lost(self, job: _Job, how: str) -> Outcome | None:
        job.lost = 0 if job.has_news else job.lost + 1
        if job.lost <= self._workers.max_retries:
            self._progress.warn(f"{job.name}: its worker was lost ({how}): it goes on from its journal on another one")
            return None
        reason = (
            f"its worker was lost {job.lost} times without a finished chunk of pairs ({how}): scan it by itself "
            "(--executor local), or on nodes with more memory"
        )
        return Outcome((unfinished(job.path, job.name, self._order, Verdict.NO_VERDICT, reason),))


def run_task(parcel: Parcel, clean: CleanSet | None, kept: Mapping[str, bytes], task: Task, post: Any) -> Outcome:
    """What Ray runs: `scan_parcel` with the processors and cards that it gave this task."""
    ray: Any = import_module("ray")  # only where there is one
    ledger, attempt = post
    context: Any = ray.get_runtime_context()
    if not context.get_accelerator_ids().get("GPU"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a card that was not given may be another task's
    threads = max(1, int(context.get_assigned_resources().get("CPU", 1)))
    return scan_parcel(
        parcel, clean, kept, task, lambda events: ray.get(ledger.post.remote(attempt, events)), threads=threads
    )
