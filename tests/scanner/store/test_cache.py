import os
from dataclasses import replace
from pathlib import Path

import pytest

from backscan.scanner.store.cache import Entry, ScanCache, default_folder, renamed
from tests.scanner.reports.examples import detected, inconclusive, no_verdict, not_detected

VERSIONS = {"backscan": "0.1.0", "torch": "2.13.0"}


@pytest.fixture
def cache(tmp_path: Path) -> ScanCache:
    return ScanCache(tmp_path / "results", VERSIONS)


def entry(cache: ScanCache, **changed: object) -> Entry:
    depends = {"model_sha256": "9f" * 32, "data_digest": "ab" * 32, "config": {"seed": 0, "targets": [1, 2]}}
    return cache.entry(**{**depends, **changed})  # type: ignore[arg-type]


def test_the_same_scan_is_found_again(cache: ScanCache) -> None:
    assert entry(cache).find() is None
    entry(cache).keep(not_detected())
    found = entry(cache).find()
    assert found is not None
    assert found.to_dict() == not_detected().to_dict()


@pytest.mark.parametrize(
    "changed", [{"model_sha256": "00"}, {"data_digest": "00"}, {"config": {"seed": 1, "targets": [1, 2]}}]
)
def test_another_scan_is_not(cache: ScanCache, changed: dict[str, object]) -> None:
    entry(cache).keep(not_detected())
    assert entry(cache, **changed).find() is None


def test_another_version_is_not(cache: ScanCache) -> None:
    entry(cache).keep(not_detected())
    newer = replace(cache, versions={**VERSIONS, "torch": "2.14.0"})
    assert entry(newer).find() is None


@pytest.mark.parametrize("result", [inconclusive(), no_verdict()])
def test_what_may_come_out_otherwise_next_time_is_not_kept(cache: ScanCache, result: object) -> None:
    entry(cache).keep(result)  # type: ignore[arg-type]
    assert not cache.folder.exists()


@pytest.mark.parametrize("text", ["", "{", '{"reports": []}', "\x00"])
def test_a_damaged_entry_is_scanned_again(cache: ScanCache, text: str) -> None:
    entry(cache).keep(not_detected())
    (path,) = cache.folder.glob("*.json")
    path.write_text(text, encoding="utf-8")
    assert entry(cache).find() is None


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    kept = entry(ScanCache(tmp_path / "file" / "results", VERSIONS))
    kept.keep(detected())
    assert kept.find() is None
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


def test_a_failed_write_leaves_nothing(cache: ScanCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    entry(cache).keep(not_detected())
    assert list(cache.folder.iterdir()) == []


def test_the_oldest_entries_are_forgotten(tmp_path: Path) -> None:
    cache = ScanCache(tmp_path, VERSIONS, max_entries=2)
    for index in range(3):
        entry(cache, data_digest=str(index)).keep(not_detected())
        for path in cache.folder.glob("*.json"):
            os.utime(path, (path.stat().st_mtime - 10, path.stat().st_mtime - 10))
    assert len(list(cache.folder.glob("*.json"))) == 2
    assert entry(cache, data_digest="0").find() is None


def test_the_folder_follows_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if os.name == "posix" and os.uname().sysname == "Linux":
        assert default_folder() == tmp_path / "backscan" / "results"
    else:
        assert "backscan" in default_folder().parts


def test_a_found_result_takes_the_names_of_this_run() -> None:
    again = renamed(detected(), name="copy.onnx", class_names=None, command="scanner check copy.onnx")
    assert (again.model.name, again.model.class_names) == ("copy.onnx", None)
    assert again.provenance.command == "scanner check copy.onnx"
    assert again.pairs == detected().pairs


def test_what_is_no_file_is_not_waited_for(cache: ScanCache) -> None:
    entry(cache).keep(not_detected())
    entry(cache).path.unlink()
    os.mkfifo(entry(cache).path)
    assert entry(cache).find() is None
