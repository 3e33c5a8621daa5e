"""A Git LFS pointer in the place of a file is named as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from backscan.converters.errors import ArtifactError
from backscan.converters.intake.audit import audit
from backscan.converters.intake.external import read_external
from backscan.converters.intake.pointers import is_pointer
from backscan.converters.intake.policy import Policy
from backscan.scanner.errors import CleanSetError
from backscan.scanner.images.archive import Archive
from backscan.scanner.images.limits import ReadLimits
from backscan.scanner.images.pictures import read_picture

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1234567\n"
SAID = "found a Git LFS pointer in its place: run `git lfs pull`"


def test_a_pointer_is_short_and_begins_with_its_version() -> None:
    assert is_pointer(POINTER)
    assert not is_pointer(POINTER + bytes(1024))
    assert not is_pointer(b"# " + POINTER)


def test_in_place_of_a_model() -> None:
    with pytest.raises(ArtifactError, match=f"^expected an ONNX model, {SAID}"):
        audit(POINTER)


def test_in_place_of_external_data(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(POINTER)
    with pytest.raises(ArtifactError, match=f"^expected at least 4000 bytes in 'w.bin', {SAID}"):
        read_external(tmp_path, {"w.bin": 4000}, Policy())
    assert read_external(tmp_path, {"w.bin": 24}, Policy()) == {"w.bin": POINTER}


def test_in_place_of_images(tmp_path: Path) -> None:
    for name, read in (
        ("x.npz", lambda path, limits: list(Archive(path, limits).parts())),
        ("x.png", lambda path, limits: read_picture(path, limits, 0)),
    ):
        (tmp_path / name).write_bytes(POINTER)
        with pytest.raises(CleanSetError, match=f"^expected an .* {SAID}"):
            read(tmp_path / name, ReadLimits())
