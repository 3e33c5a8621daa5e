"""External data is read from plain files beneath the model's folder only, whatever the model or the folder say."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from backscan.converters.errors import ArtifactError, LimitExceededError, PolicyError
from backscan.converters.intake.audit import audit
from backscan.converters.intake.external import read_external
from backscan.converters.intake.policy import Policy
from backscan.converters.intake.stored_tensors import is_beneath
from benchmarks.hostile.models import external

POLICY = Policy(max_external_bytes=1000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(b"s" * 100)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "weights").write_bytes(b"o" * 100)
    folder = tmp_path / "model"
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "weights").write_bytes(b"w" * 100)
    (folder / "deep" / "deeper" / "weights").write_bytes(b"d" * 50)
    return folder


def test_files_beneath_the_folder_are_read(folder: Path) -> None:
    locations = {"weights": 100, "deep/deeper/weights": 50, "./weights": 0}
    found = read_external(folder, locations, POLICY)
    assert found == {"weights": b"w" * 100, "deep/deeper/weights": b"d" * 50, "./weights": b"w" * 100}


@pytest.mark.parametrize(
    "location",
    [
        "../secret",
        "deep/../../secret",
        "/etc/passwd",
        "",
        ".",
        "..",
        "deep//weights",
        "a\\b",
        "C:weights",
        "~/x",
        "w\0",
    ],
)
def test_paths_that_leave_the_folder_are_refused(folder: Path, location: str) -> None:
    assert not is_beneath(location)
    with pytest.raises(PolicyError, match="not a plain relative path"):
        read_external(folder, {location: 0}, POLICY)


def test_links_are_refused_in_every_place(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "weights")
    (folder / "away").symlink_to(folder.parent / "outside")
    (folder / "loop").symlink_to(folder / "loop")
    for location in ("link", "away/weights", "loop"):
        with pytest.raises(PolicyError, match="without following links"):
            read_external(folder, {location: 0}, POLICY)


def test_hard_links_are_refused(folder: Path) -> None:
    os.link(folder.parent / "secret", folder / "hard")
    with pytest.raises(PolicyError, match="2 names"):
        read_external(folder, {"hard": 0}, POLICY)


def test_what_is_no_regular_file_is_refused_without_waiting(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        for location in ("pipe", "socket", "deep"):
            with pytest.raises(PolicyError, match=r"no regular file|cannot be opened"):
                read_external(folder, {location: 0}, POLICY)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make device files")
def test_devices_are_refused(folder: Path) -> None:
    os.mknod(folder / "zero", 0o600 | 0o020000, os.makedev(1, 5))
    with pytest.raises(PolicyError, match="no regular file"):
        read_external(folder, {"zero": 0}, POLICY)


def test_file_in_place_of_a_folder_is_refused(folder: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be opened"):
        read_external(folder, {"weights/more": 0}, POLICY)


def test_missing_and_short_files_are_named(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="'gone', which is not there"):
        read_external(folder, {"gone": 0}, POLICY)
    with pytest.raises(ArtifactError, match="at least 101 bytes in 'weights', found 100"):
        read_external(folder, {"weights": 101}, POLICY)


def test_sizes_add_up(folder: Path) -> None:
    with pytest.raises(LimitExceededError, match="at most 120 bytes of external data, found 150") as caught:
        read_external(folder, {"deep/deeper/weights": 0, "weights": 0}, Policy(max_external_bytes=120))
    assert (caught.value.limit, caught.value.actual) == (120, 150)


def test_sparse_giant_is_refused_before_it_is_read(folder: Path) -> None:
    with (folder / "giant").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(LimitExceededError):
        read_external(folder, {"giant": 0}, Policy())


def test_descriptors_are_closed(folder: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    for location in ("weights", "deep/deeper/weights"):
        assert read_external(folder, {location: 0}, POLICY)
    for location, error in (("gone", ArtifactError), ("deep/gone", ArtifactError), ("deep", PolicyError)):
        with pytest.raises(error):
            read_external(folder, {location: 0}, POLICY)
    assert len(os.listdir("/dev/fd")) == before


def test_intake_tells_how_far_each_file_must_reach() -> None:
    report = audit(external("data/weights", offset=4096).SerializeToString())
    assert report.accepted
    assert report.external_locations == {"data/weights": 4096 + 64 * 3 * 4}
