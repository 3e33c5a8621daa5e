"""How models are sent, lost, begun again and told of, on a cluster that runs a task when somebody waits for it."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import JournalMismatchError, OptionError, UserError
from backscan.scanner.fleet import on_ray
from backscan.scanner.fleet.cluster import Cluster, Needs, joined
from backscan.scanner.fleet.executors import executor_of
from backscan.scanner.fleet.ledger import Ledger, Said
from backscan.scanner.fleet.order import Order, Scans, Workers
from backscan.scanner.fleet.outcome import Failure, Outcome
from backscan.scanner.fleet.scanning import scan_models
from backscan.scanner.pipeline.ends import Interrupted, NameNotInModelError
from backscan.scanner.progress import Progress, SilentProgress
from backscan.scanner.results import ScanResult, Verdict
from backscan.scanner.store.journal_mirror import Change
from tests.scanner.reports import examples

CHUNK = b'{"kind": "chunk", "chunk": "%d"}\n'


class RayError(Exception):
    """A worker, node or object that was lost."""


class RayTaskError(RayError):
    """What a task raised."""

    cause: Exception


class FakeRay:
    """The part of Ray that a fleet uses; a task runs when it is waited for, the last one first."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, run: Callable[[str, Any], Outcome], **resources: float) -> None:
        """Run tasks by `run`, which gets the name of the model and what posts events."""
        self.most, self.puts, self.options = 0, 0, dict[str, Any]()
        self._run, self._resources, self._pending = run, resources or {"CPU": 1}, dict[int, tuple[Any, ...]]()
        self._results: dict[int, Any] = {}
        self._count = 0

    def cluster_resources(self) -> dict[str, float]:
        """What the cluster has."""
        return self._resources

    def put(self, value: object) -> object:
        """Count it."""
        self.puts += 1
        return value

    def remote(self, what: Any) -> Any:
        """A ledger that is called at once, or a task that waits."""
        if what is Ledger:
            ledger = Ledger()
            handle = SimpleNamespace(take=SimpleNamespace(remote=ledger.take), post=SimpleNamespace(remote=ledger.post))
            return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda: handle))

        def options(**given: Any) -> Any:
            self.options = given
            return SimpleNamespace(remote=self._begin)

        return SimpleNamespace(options=options)

    def _begin(self, *arguments: Any) -> int:
        self._count += 1
        self._pending[self._count] = arguments
        self.most = max(self.most, len(self._pending))
        return self._count

    def wait(self, refs: Sequence[int], **_: Any) -> tuple[list[int], list[int]]:
        """Run the last task."""
        ref = refs[-1]
        _, _, kept, task, (ledger, attempt) = self._pending.pop(ref)
        try:
            self._results[ref] = self._run(task.name, lambda *events: ledger.post.remote(attempt, events))
        except RayError as error:
            self._results[ref] = error
        self.kept = kept
        return [ref], []

    def get(self, value: Any) -> Any:
        """What a task gave or raised."""
        found = self._results.pop(value) if isinstance(value, int) else value
        if isinstance(found, Exception):
            raise found
        return found

    def cancel(self, ref: int, *, force: bool) -> None:
        """Forget a task."""
        assert force
        self._pending.pop(ref)


class Heard(SilentProgress):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.messages, self.warnings = list[str](), list[str]()

    def message(self, text: str) -> None:
        """Keep it."""
        self.messages.append(text)

    def warn(self, text: str) -> None:
        """Keep it."""
        self.warnings.append(text)


def result(name: str) -> ScanResult:
    found = examples.detected()
    return replace(found, model=replace(found.model, name=name))


def scan(name: str, post: Callable[..., None]) -> Outcome:
    post(Said("looked at"))
    return Outcome((result(name),))


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.chdir(tmp_path)
    made = [tmp_path / f"{name}.onnx" for name in "abcdef"]
    for path in made:
        path.write_bytes(path.stem.encode())
    return made


def fleet(ray: FakeRay, tmp_path: Path, heard: Progress | None = None, **options: Any) -> on_ray.Fleet:
    order = Order(ScanConfig(sandbox=False), **{"images": None, **options})
    return on_ray.Fleet(Cluster(ray), order, Workers(max_retries=2), tmp_path / "journal", heard or SilentProgress())


def keep(scans: Scans, found: list[ScanResult]) -> None:
    for _, results in scans:
        for each in results:
            found.append(each)  # noqa: PERF402 - those before an error stay


def names(scans: Scans) -> list[str]:
    return [each.model.name for _, results in scans for each in results]


def test_models_come_in_their_order_with_a_bounded_number_on_their_way(paths: list[Path], tmp_path: Path) -> None:
    ray, heard = FakeRay(scan, CPU=2), Heard()
    assert names(fleet(ray, tmp_path, heard).scans(paths)) == [path.name for path in paths]
    assert ray.most == 4, "two that are scanned, and two that wait"
    assert sorted(heard.messages) == [f"{path.name}: looked at" for path in paths]
    assert ray.options["max_retries"] == 0, "Ray would begin from nothing"


def test_a_lost_worker_is_told_and_the_next_one_gets_the_journal(paths: list[Path], tmp_path: Path) -> None:
    begun: list[str] = []

    def lose_the_first(name: str, post: Callable[..., None]) -> Outcome:
        begun.append(name)
        if len(begun) <= 4:  # each time with something new, so more often than workers may be lost in a row
            post(Change("pairs.jsonl", CHUNK % len(begun)))
            raise RayError("killed")
        return scan(name, post)

    ray, heard = FakeRay(lose_the_first), Heard()
    assert names(fleet(ray, tmp_path, heard).scans(paths[:1])) == ["a.onnx"]
    assert ray.kept["pairs.jsonl"] == b"".join(CHUNK % number for number in (1, 2, 3, 4))
    assert len(heard.warnings) == 4
    assert heard.warnings[0].startswith("a.onnx: its worker was lost (RayError)")


def test_what_a_lost_worker_sends_later_is_not_taken(paths: list[Path], tmp_path: Path) -> None:
    posts: list[Callable[..., None]] = []

    def linger(name: str, post: Callable[..., None]) -> Outcome:
        posts.append(post)
        if len(posts) == 1:
            raise RayError("cut off")
        posts[0](Change("pairs.jsonl", b"of another life\n"))
        return scan(name, post)

    assert names(fleet(FakeRay(linger), tmp_path).scans(paths[:1])) == ["a.onnx"]
    assert not (tmp_path / "journal" / "pairs.jsonl").exists()


def test_a_model_that_ends_workers_has_no_verdict_and_the_others_go_on(paths: list[Path], tmp_path: Path) -> None:
    def end_the_first(name: str, post: Callable[..., None]) -> Outcome:
        if name == "a.onnx":
            post(Change("pairs.jsonl", b'{"kind": "pair"}\n'))  # which the next one would search again
            raise RayError("out of memory")
        return scan(name, post)

    found = [each for _, results in fleet(FakeRay(end_the_first), tmp_path).scans(paths[:2]) for each in results]
    assert [each.verdict for each in found] == [Verdict.NO_VERDICT, Verdict.BACKDOOR_DETECTED]
    assert "lost 3 times without a finished chunk of pairs (RayError)" in found[0].reasons[0]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UserError("expected more"), UserError),
        (JournalMismatchError("another model", field="model"), JournalMismatchError),
        (ValueError("a defect"), Exception),
    ],
)
def test_an_error_that_ends_all_comes_after_what_is_done(
    paths: list[Path], tmp_path: Path, error: Exception, kind: type[Exception]
) -> None:
    def fail(name: str, post: Callable[..., None]) -> Outcome:
        return Outcome(failure=Failure.of(error)) if name == "b.onnx" else scan(name, post)

    found: list[ScanResult] = []
    with pytest.raises(kind, match=str(error)):
        keep(fleet(FakeRay(fail, CPU=2), tmp_path).scans(paths), found)
    assert [each.model.name for each in found] == ["c.onnx", "d.onnx", "e.onnx", "f.onnx"]


def test_a_name_that_one_model_lacks_leaves_the_others(paths: list[Path], tmp_path: Path) -> None:
    absent = NameNotInModelError("no output `x`", result("b.onnx"))

    def lack(name: str, post: Callable[..., None]) -> Outcome:
        return Outcome(failure=Failure.of(absent)) if name == "b.onnx" else scan(name, post)

    ended: list[str] = []
    for path, results in fleet(FakeRay(lack), tmp_path).scans(paths[:3]):
        try:
            ended += [each.model.name for each in results]
        except NameNotInModelError as error:
            ended.append(f"{path.name} lacks: {error.result.model.name}")
    assert ended == ["a.onnx", "b.onnx lacks: b.onnx", "c.onnx"]


def test_an_interrupt_gives_what_is_done_and_the_model_that_was_scanned(paths: list[Path], tmp_path: Path) -> None:
    def interrupt(name: str, post: Callable[..., None]) -> Outcome:
        if name == "a.onnx":
            raise KeyboardInterrupt
        return scan(name, post)

    found: list[ScanResult] = []
    with pytest.raises(Interrupted) as end:
        keep(fleet(FakeRay(interrupt), tmp_path).scans(paths[:3]), found)
    assert end.value.result.model.name == "a.onnx"
    assert end.value.result.verdict is Verdict.INCONCLUSIVE
    assert [each.model.name for each in found] == ["b.onnx", "c.onnx"]


def test_a_journal_that_is_there_is_not_written_unless_it_is_resumed(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "header.json").write_text("{}")
    with pytest.raises(OptionError, match=r"expected no journal in .*journal, found one: pass --resume"):
        names(fleet(FakeRay(scan), tmp_path).scans(paths[:1]))
    ray = FakeRay(scan)
    assert names(fleet(ray, tmp_path, resume=True).scans(paths[:1])) == ["a.onnx"]
    assert ray.kept == {"header.json": b"{}", "pairs.jsonl": b""}


def test_images_of_all_models_are_sent_once(paths: list[Path], tmp_path: Path) -> None:
    from tests.scanner.pipeline.scans import write_images

    ray = FakeRay(scan)
    names(fleet(ray, tmp_path, images=write_images(tmp_path)).scans(paths))
    assert ray.puts == len(paths) + 1


@pytest.mark.parametrize(
    ("resources", "device", "threads", "needs", "room"),
    [
        ({"CPU": 4.0}, "auto", None, Needs(1, 0), 4),
        ({"CPU": 4.0}, "cpu", 3, Needs(3, 0), 1),
        ({"CPU": 8.0, "GPU": 2.0}, "auto", None, Needs(1, 1), 2),
        ({"CPU": 8.0, "GPU": 2.0}, "cpu", 2, Needs(2, 0), 4),
        ({"CPU": 8.0}, "cuda", None, Needs(1, 1), 0),
    ],
)
def test_a_scan_takes_processors_and_a_card_where_it_may_use_one(
    resources: dict[str, float], device: str, threads: int | None, needs: Needs, room: int
) -> None:
    cluster = Cluster(FakeRay(scan, **resources))
    assert cluster.needs(device, threads) == needs
    assert cluster.room(needs) == room


def test_a_cluster_without_room_is_told(tmp_path: Path) -> None:
    heard = Heard()
    order = replace(Order(ScanConfig(sandbox=False)), config=ScanConfig(device="cuda", sandbox=False))
    on_ray.Fleet(Cluster(FakeRay(scan)), order, Workers(), tmp_path, heard)
    assert heard.warnings == [
        "no node of the cluster has 1 processors and 1 graphics cards for a scan: waiting until one joins "
        "(--threads, --device)"
    ]


@pytest.mark.parametrize("spelled", ["dask", "ray:", "ray://", "local://here", ""])
def test_an_executor_that_is_none_is_named(spelled: str) -> None:
    with pytest.raises(OptionError, match="expected --executor to be local, ray or ray://HOST:PORT, found"):
        executor_of(spelled, None)


def test_an_address_and_retries_are_of_a_cluster() -> None:
    assert executor_of("ray://head:10001", 7)[1] == Workers("head:10001", 7)
    assert executor_of("ray", None)[1] == Workers("", 3)
    with pytest.raises(OptionError, match="expected no --max-retries with --executor local"):
        executor_of("local", 1)
    with pytest.raises(OptionError, match="expected --max-retries between 0 and 1000, found -1"):
        executor_of("ray", -1)


def test_without_the_package_one_sentence_says_so(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OptionError, match=r"expected ray for --executor ray, .* `pip install 'backscan\[ray\]'`"):
        list(scan_models(paths, executor="ray"))


def test_what_ray_prints_is_no_part_of_a_report(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    with joined(""):
        thread = threading.Thread(target=lambda: print("(raylet) a worker died"), name="ray_listen_error_messages")
        thread.start()
        thread.join()
        print(json.dumps({"report": 1}))
    assert capsys.readouterr().out == '{"report": 1}\n'
