"""A journal that is copied while it is written: the copy resumes as the journal would, whatever was lost on the way."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from backscan.scanner.errors import OptionError, UserError
from backscan.scanner.results import PairResult, PairStatus, Trajectory
from backscan.scanner.store.journal import Journal
from backscan.scanner.store.journal_mirror import Change, JournalMirror, JournalTail, unpack

KEY = {"model": "m"}
PAIRS = [(0, 1), (0, 2)]


def found(source: int, target: int) -> PairResult:
    path = Trajectory((1.0,), (0.9,))
    pattern = np.full((1, 2, 2), 0.5, np.float32)
    return PairResult(
        "pairwise", source, target, PairStatus.REACHED, 1.0, 0.9, 0.0, steps=1, trajectory=path, pattern=pattern
    )


def test_a_copy_has_what_the_journal_has(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "there", KEY, resume=False) as journal:
        tail, mirror = JournalTail(tmp_path / "there"), JournalMirror(tmp_path / "here", resume=False)
        mirror.take([Change("header.json", (tmp_path / "there" / "header.json").read_bytes())])
        journal.add("s", PAIRS, found(0, 1))
        first = tail.changes()
        assert [change.path for change in first] == ["patterns/s/0-1.npy", "pairs.jsonl"]
        mirror.take(first)
        journal.add("s", PAIRS, found(0, 2))
        journal.record("s", PAIRS, [found(0, 1), found(0, 2)])
        mirror.take(tail.changes())
        assert not tail.changes()
    mirror.close()
    with Journal.open(tmp_path / "here", KEY, resume=True) as copied:
        assert copied.chunk("s", PAIRS) is not None


def test_what_is_lost_on_the_way_is_searched_again(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "there", KEY, resume=False) as journal:
        tail, mirror = JournalTail(tmp_path / "there"), JournalMirror(tmp_path / "here", resume=False)
        journal.add("s", PAIRS, found(0, 1))
        tail.changes()  # lost
        journal.record("s", PAIRS, [found(0, 1), found(0, 2)])
        mirror.take(tail.changes())
    mirror.close()
    with Journal.open(tmp_path / "here", KEY, resume=True) as copied:
        assert copied.chunk("s", PAIRS) is None


def test_half_a_line_waits_for_the_other(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    tail = JournalTail(tmp_path / "there")
    (tmp_path / "there" / "pairs.jsonl").write_bytes(b"whole\nhal")
    assert tail.changes() == [Change("pairs.jsonl", b"whole\n")]
    (tmp_path / "there" / "pairs.jsonl").write_bytes(b"whole\nhalf\n")
    assert tail.changes() == [Change("pairs.jsonl", b"half\n")]


def test_only_files_of_a_journal_are_written_and_read(tmp_path: Path) -> None:
    mirror = JournalMirror(tmp_path / "here", resume=False)
    names = [
        "../out",
        str(tmp_path / "out"),
        "patterns/../../out",
        "notes.txt",
        "patterns/s/0-1.npy/../../../../out",
        "x/header.json",
    ]
    mirror.take([Change(name, b"x") for name in names])
    assert list((tmp_path / "here").rglob("*")) == []
    assert not (tmp_path / "out").exists()
    mirror.take([Change("0a1b2c3d/pairs.jsonl", b"of an output\n")])
    assert mirror.content() == {"0a1b2c3d/pairs.jsonl": b"of an output\n"}
    unpack(tmp_path / "again", {**mirror.content(), "../out": b"x"})
    assert (tmp_path / "again" / "0a1b2c3d" / "pairs.jsonl").read_bytes() == b"of an output\n"
    assert not (tmp_path / "out").exists()
    mirror.close()


def test_a_journal_that_is_in_use_or_no_journal_is_refused(tmp_path: Path) -> None:
    with (
        Journal.open(tmp_path / "used", KEY, resume=False),
        pytest.raises(OptionError, match="another scan is writing"),
    ):
        JournalMirror(tmp_path / "used", resume=True)
    with pytest.raises(OptionError, match="expected no journal in"):
        JournalMirror(tmp_path / "used", resume=False)
    (tmp_path / "odd").mkdir()
    os.symlink("/etc/passwd", tmp_path / "odd" / "header.json")
    with pytest.raises(UserError, match="expected plain files and folders in the journal"):
        JournalMirror(tmp_path / "odd", resume=True)
