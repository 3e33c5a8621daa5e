import os
from dataclasses import replace
from pathlib import Path

import pytest

from backscan.scanner import cache as cache_module
from backscan.scanner.cache import ScanCache, default_folder, renamed
from tests.scanner.reports.examples import detected, inconclusive, no_verdict, not_detected

VERSIONS = {"backscan": "0.1.0", "torch": "2.13.0"}


@pytest.fixture
def cache(tmp_path: Path) -> ScanCache:
    return ScanCache(tmp_path / "results", VERSIONS)


def find(cache: ScanCache, **changed: object) -> object:
    result = not_detected()
    assert result.data is not None
    depends = {"model_sha256": result.model.sha256, "data_digest": result.data.digest, "config": result.config}
    return cache.find(**{**depends, **changed})  # type: ignore[arg-type]


def test_the_same_scan_is_found_again(cache: ScanCache) -> None:
    assert find(cache) is None
    cache.keep(not_detected())
    found = find(cache)
    assert found is not None
    assert found.to_dict() == not_detected().to_dict()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "changed", [{"model_sha256": "00"}, {"data_digest": "00"}, {"config": {**not_detected().config, "seed": 1}}]
)
def test_another_scan_is_not(cache: ScanCache, changed: dict[str, object]) -> None:
    cache.keep(not_detected())
    assert find(cache, **changed) is None


def test_another_version_is_not(cache: ScanCache) -> None:
    cache.keep(not_detected())
    assert find(replace(cache, versions={**VERSIONS, "torch": "2.14.0"})) is None


@pytest.mark.parametrize("result", [inconclusive(), no_verdict()])
def test_what_may_come_out_otherwise_next_time_is_not_kept(cache: ScanCache, result: object) -> None:
    cache.keep(result)  # type: ignore[arg-type]
    assert not cache.folder.exists()


@pytest.mark.parametrize("text", ["", "{", '{"reports": []}', "\x00"])
def test_a_damaged_entry_is_scanned_again(cache: ScanCache, text: str) -> None:
    cache.keep(not_detected())
    (entry,) = cache.folder.glob("*.json")
    entry.write_text(text, encoding="utf-8")
    assert find(cache) is None


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    ScanCache(tmp_path / "file" / "results", VERSIONS).keep(detected())


def test_a_failed_write_leaves_nothing(cache: ScanCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    cache.keep(not_detected())
    assert list(cache.folder.iterdir()) == []


def test_the_oldest_entries_are_forgotten(cache: ScanCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_MAX_ENTRIES", 2)
    for index in range(3):
        cache.keep(replace(not_detected(), model=replace(not_detected().model, sha256=f"{index:064}")))
        for entry in cache.folder.glob("*.json"):
            os.utime(entry, (entry.stat().st_mtime - 10, entry.stat().st_mtime - 10))
    assert len(list(cache.folder.glob("*.json"))) == 2
    assert find(cache, model_sha256=f"{0:064}") is None


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
