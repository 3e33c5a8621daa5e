"""Texts are read from regular files of a bounded size, and nothing that never ends is waited for."""

import os
import time
from pathlib import Path

import pytest

from backscan.scanner.store.files import read_text, why_unreadable


def test_text_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("zwölf\n", encoding="utf-8")
    assert read_text(path) == "zwölf\n"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UnicodeDecodeError):
        read_text(path)


def test_what_was_found_instead_is_told_in_plain_words(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(b"\xff\xfe")
    told = []
    for asked in (path, tmp_path / "missing.txt", tmp_path):
        with pytest.raises((OSError, UnicodeDecodeError)) as caught:
            read_text(asked)
        told.append(why_unreadable(caught.value))
    assert told[:2] == ["a file that is no text", "no such file or directory"]
    assert "directory" in told[2] or "regular file" in told[2]
    assert not any("Errno" in text or "codec" in text for text in told)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_never_ends_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "names.txt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    start = time.monotonic()
    with pytest.raises(OSError, match=r"regular file|directory"):
        read_text(path)
    assert time.monotonic() - start < 5


def test_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.touch()
    os.truncate(path, 10 << 30)
    with pytest.raises(OSError, match=r"10,737,418,240 bytes, more than 1,073,741,824"):
        read_text(path)
