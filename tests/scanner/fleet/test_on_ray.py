"""Scans on a real cluster of two worker processes: the same reports as here, whoever is killed in between."""

from __future__ import annotations

import gc
import importlib
import json
import os
import secrets
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from backscan.scanner.cli import app
from backscan.scanner.fleet import on_ray
from backscan.scanner.fleet.ledger import Event, Ledger
from backscan.scanner.results import Verdict
from backscan.scanner.store.journal_mirror import Change
from tests.scanner.pipeline.scans import write_images, write_model

OPTIONS = (
    *("--preprocess", "none", "--no-sandbox", "--device", "cpu", "--bootstrap-draws", "199"),
    *("--detector", "pairwise", "--statistic", "plain", "--null", "gamma"),
)
FINISHED_CHUNK = b'"kind": "chunk"'


def start(ray: Any, attempts: int = 3) -> None:
    """Start a cluster; Ray gives its first node half a minute, which on a loaded machine may be too little."""
    try:
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    except Exception:
        if attempts == 1:
            raise
        ray.shutdown()
        start(ray, attempts - 1)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster of this machine, for two scans at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # other tests run beside these
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else it is kept in the home folder
        module: Any = pytest.importorskip("ray")
        start(module)
        yield module
        module.shutdown()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # processes that Ray has ended and not waited for
        gc.collect()


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder with a folder of models: an attacked one, one that is none, and one without an attack."""
    (tmp_path / "models").mkdir()
    write_model(tmp_path / "models", "attacked.onnx")
    write_model(tmp_path / "models", "ordinary.onnx", source=None)
    (tmp_path / "models" / "broken.onnx").write_bytes(b"no model")
    write_images(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Post:
    """The way to a ledger, for a worker that dies once it has sent what `ends` finds in it."""

    def __init__(self, ledger: Any, attempts: Sequence[str], word: bytes, *, arrives: bool) -> None:
        self._ledger, self._attempts, self._word, self._arrives = ledger, attempts, word, arrives

    def remote(self, attempt: str, events: Sequence[Event]) -> Any:
        """Send what is new, or the last of it."""
        is_last = attempt in self._attempts and any(
            isinstance(event, Change) and self._word in event.data for event in events
        )
        if self._arrives or not is_last:
            sent = self._ledger.post.remote(attempt, events)
        if is_last:
            if self._arrives:
                importlib.import_module("ray").get(sent)
            os.kill(os.getpid(), signal.SIGKILL)
        return sent


class Deadly:
    """A ledger whose first worker of a model dies."""

    def __init__(self, ledger: Any, attempts: Sequence[str], word: bytes, *, arrives: bool) -> None:
        self.take = ledger.take
        self.post = Post(ledger, attempts, word, arrives=arrives)


def deadly(monkeypatch: pytest.MonkeyPatch, *attempts: str, word: bytes, arrives: bool) -> None:
    cloudpickle: Any = importlib.import_module("ray.cloudpickle")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers need not find the tests

    def ledger(ray: Any) -> Deadly:
        return Deadly(ray.remote(Ledger).options(num_cpus=0).remote(), attempts, word, arrives=arrives)

    monkeypatch.setattr(on_ray.Fleet, "ledger", staticmethod(ledger))


def check(*arguments: object) -> Result:
    given = ["check", *arguments, "--data", "images.npz", *OPTIONS, "--report", "-"]
    return CliRunner().invoke(app.app, [str(each) for each in given])


def reports(done: Result) -> list[dict[str, Any]]:
    document = json.loads(done.stdout)
    return [report | {"timings": {}, "finished": ""} for report in document.get("reports", [document])]


def test_a_worker_killed_in_mid_scan_loses_nothing_and_changes_nothing(
    ray: Any, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ray.cluster_resources()["CPU"] == 2
    deadly(monkeypatch, "0.1", word=FINISHED_CHUNK, arrives=True)
    done = check("models", "--executor", "ray", "--journal", "journal")
    assert done.exit_code == 1, done.stderr
    found = reports(done)
    assert [each["verdict"] for each in found] == ["backdoor_detected", "no_verdict", "not_detected"]
    assert "models/attacked.onnx: its worker was lost" in done.stderr
    (journal,) = (models / "journal").glob("attacked-*")
    kinds = [json.loads(line)["kind"] for line in (journal / "pairs.jsonl").read_text().splitlines()]
    assert kinds == ["pair"] * 20 + ["chunk"], "the second worker searched nothing again"
    assert json.dumps(found) == json.dumps(reports(check("models")))


def test_a_model_that_ends_every_worker_has_no_verdict(ray: Any, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ray.is_initialized()
    deadly(monkeypatch, "0.1", "0.2", word=b"", arrives=False)
    done = check(models / "models" / "attacked.onnx", "--executor", "ray", "--max-retries", "1")
    assert done.exit_code == 3
    (found,) = reports(done)
    assert found["verdict"] == Verdict.NO_VERDICT.value
    assert found["model"]["name"] == "models/attacked.onnx"
    assert found["reasons"][0].startswith("its worker was lost 2 times without a finished chunk of pairs")
