"""The journal keeps what was finished through any end of the process, and nothing else."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backscan.scanner.errors import JournalMismatchError, OptionError, UserError
from backscan.scanner.results import Pair, PairResult, PairStatus, Trajectory
from backscan.scanner.store.journal import Journal, _seal

KEY = {"model": "a" * 64, "data": "b" * 64, "configuration": "c" * 64, "device": "cpu"}
CHUNKS: Sequence[list[Pair]] = ([(0, 1), (0, 2)], [(1, 0), (1, 2)], [(2, 0), (2, 1)])


def make_result(pair: Pair, *, detector: str = "pairwise", seed: int = 0) -> PairResult:
    """A result whose numbers are no short decimals."""
    rng = np.random.default_rng([seed, *pair])
    trajectory = Trajectory(tuple(rng.random(4).tolist()), tuple(rng.random(4).tolist()))
    size, rate = rng.random(2).tolist()
    pattern = rng.normal(size=(3, 4, 4)).astype(np.float32)
    return PairResult(detector, *pair, PairStatus.REACHED, size, 0.1, rate, 3, trajectory, None, 1 / size, pattern)


def same(found: PairResult, expected: PairResult) -> bool:
    assert found == expected
    np.testing.assert_array_equal(found.pattern, expected.pattern)
    return True


def write(folder: Path, chunks: Sequence[list[Pair]] = CHUNKS, *, resume: bool = False) -> None:
    with Journal.open(folder, KEY, resume=resume) as journal:
        for chunk in chunks:
            if journal.chunk("pairwise", chunk) is None:
                journal.record("pairwise", chunk, [make_result(pair) for pair in chunk])


def num_finished(journal: Journal) -> int:
    return sum(len(journal.chunk("pairwise", chunk) or ()) for chunk in CHUNKS)


def test_finished_chunks_come_back_exactly(tmp_path: Path) -> None:
    write(tmp_path / "journal")
    with Journal.open(tmp_path / "journal", KEY, resume=True) as journal:
        for chunk in CHUNKS:
            found = journal.chunk("pairwise", chunk)
            assert found is not None
            assert all(same(result, make_result(pair)) for result, pair in zip(found, chunk, strict=True))
        assert num_finished(journal) == 6
        assert journal.chunk("pairwise", [(0, 1)]) is None, "another division into chunks is another search"
        assert journal.chunk("other", CHUNKS[0]) is None


def test_results_without_a_size_come_back(tmp_path: Path) -> None:
    result = replace(make_result((0, 1)), status=PairStatus.ALREADY_CONFUSED, size=None, reciprocal=None)
    with Journal.open(tmp_path, KEY, resume=True) as journal:
        journal.record("pairwise", [(0, 1)], [result])
    with Journal.open(tmp_path, KEY, resume=True) as journal:
        [found] = journal.chunk("pairwise", [(0, 1)]) or ()
        assert same(found, result)


def test_no_pair_is_believed_to_have_been_without_images(tmp_path: Path) -> None:
    """Such pairs are never searched; one in a journal would hide a pair that has images."""
    result = replace(make_result((0, 1)), status=PairStatus.NO_IMAGES, size=None, reciprocal=None, pattern=None)
    with Journal.open(tmp_path, KEY, resume=True) as journal:
        journal.record("pairwise", [(0, 1)], [result])
    with Journal.open(tmp_path, KEY, resume=True) as journal:
        assert journal.chunk("pairwise", [(0, 1)]) is None


def test_sections_do_not_share_patterns(tmp_path: Path) -> None:
    with Journal.open(tmp_path, KEY, resume=True) as journal:
        for seed, section in enumerate(("pairwise", "pairwise=imagenet")):
            journal.record(section, [(0, 1)], [make_result((0, 1), seed=seed)])
    with Journal.open(tmp_path, KEY, resume=True) as journal:
        for seed, section in enumerate(("pairwise", "pairwise=imagenet")):
            found = journal.chunk(section, [(0, 1)])
            assert found is not None
            assert same(found[0], make_result((0, 1), seed=seed))


def test_unfinished_chunk_is_searched_again(tmp_path: Path) -> None:
    chunk = CHUNKS[0]
    with Journal.open(tmp_path, KEY, resume=True) as journal:
        journal.add("pairwise", chunk, make_result(chunk[0]))
    with Journal.open(tmp_path, KEY, resume=True) as journal:
        assert journal.chunk("pairwise", chunk) is None
        journal.record("pairwise", chunk, [make_result(pair, seed=5) for pair in chunk])
    with Journal.open(tmp_path, KEY, resume=True) as journal:
        found = journal.chunk("pairwise", chunk)
        assert found is not None
        assert all(same(result, make_result(pair, seed=5)) for result, pair in zip(found, chunk, strict=True))


def test_pair_kept_at_once_is_written_once(tmp_path: Path) -> None:
    chunk = CHUNKS[0]
    with Journal.open(tmp_path, KEY, resume=True) as journal:
        for pair in chunk:
            journal.add("pairwise", chunk, make_result(pair))
        journal.record("pairwise", chunk, [make_result(pair) for pair in chunk])
    assert len((tmp_path / "pairs.jsonl").read_bytes().splitlines()) == 3


def test_line_cut_anywhere_is_dropped_and_written_over(tmp_path: Path) -> None:
    write(tmp_path / "whole")
    content = (tmp_path / "whole" / "pairs.jsonl").read_bytes()
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    for length in [*range(ends[4], len(content), 37), *ends, *(end - 1 for end in ends)]:
        lines = tmp_path / "whole" / "pairs.jsonl"
        lines.write_bytes(content[:length])
        with Journal.open(tmp_path / "whole", KEY, resume=True) as journal:
            chunk_ends = [ends[2], ends[5], ends[8]]
            assert num_finished(journal) == 2 * sum(end <= length for end in chunk_ends)
        write(tmp_path / "whole", resume=True)
        with Journal.open(tmp_path / "whole", KEY, resume=True) as journal:
            assert num_finished(journal) == 6


def test_damaged_line_and_damaged_pattern_only_cost_their_chunk(tmp_path: Path) -> None:
    write(tmp_path)
    lines = tmp_path / "pairs.jsonl"
    content = bytearray(lines.read_bytes())
    position = content.index(b'"rate": 0.') + len(b'"rate": 0.')
    content[position] = ord("1") if content[position] != ord("1") else ord("2")
    lines.write_bytes(bytes(content))
    pattern = next((tmp_path / "patterns").rglob("2-1.npy"))
    pattern.write_bytes(pattern.read_bytes()[:-1] + b"\x00")  # one pixel, so that it is still an array
    with Journal.open(tmp_path, KEY, resume=True) as journal:
        assert [journal.chunk("pairwise", chunk) is None for chunk in CHUNKS] == [True, False, True]


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"kind": "chunk", "chunk": "x"},
        {"kind": "chunk", "chunk": "x", "pairs": [[1, 2, 3], 4]},
        {"kind": "chunk", "chunk": [], "pairs": []},
        {"kind": "pair", "section": 3, "chunk": "x", "result": {}, "pattern": None},
        {"kind": "pair", "section": 3, "chunk": "x", "result": 7, "pattern": "ab"},
    ],
)
def test_sealed_line_of_somebody_else_is_dropped(tmp_path: Path, record: dict[str, object]) -> None:
    write(tmp_path)
    lines = tmp_path / "pairs.jsonl"
    lines.write_bytes(_seal(record) + b"\n" + b"[" * 100_000 + b"\n" + lines.read_bytes())
    with Journal.open(tmp_path, KEY, resume=True) as journal:
        assert num_finished(journal) == 6


@pytest.mark.parametrize("field", KEY)
def test_journal_of_something_else_is_refused_by_name(tmp_path: Path, field: str) -> None:
    write(tmp_path)
    header = json.loads((tmp_path / "header.json").read_text())
    (tmp_path / "header.json").write_text(json.dumps({**header, field: "other"}))
    with pytest.raises(JournalMismatchError, match=f"its {field} differs") as caught:
        Journal.open(tmp_path, KEY, resume=True)
    assert caught.value.field == field


def test_journal_of_another_version_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    header = json.loads((tmp_path / "header.json").read_text())
    (tmp_path / "header.json").write_text(json.dumps({**header, "format": header["format"] + 1, "model": "other"}))
    with pytest.raises(JournalMismatchError, match="expected a journal of this version of the scanner") as caught:
        Journal.open(tmp_path, KEY, resume=True)
    assert caught.value.field == "format"


def test_header_that_is_none_is_refused(tmp_path: Path) -> None:
    for content in ("", "[1]", "{"):
        (tmp_path / "header.json").write_text(content)
        with pytest.raises(JournalMismatchError, match="expected the header"):
            Journal.open(tmp_path, KEY, resume=True)


def test_journal_is_not_overwritten_unasked(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(OptionError, match="pass --resume"):
        Journal.open(tmp_path, KEY, resume=False)


def test_two_scans_do_not_share_a_journal(tmp_path: Path) -> None:
    with Journal.open(tmp_path, KEY, resume=True), pytest.raises(OptionError, match="another scan"):
        Journal.open(tmp_path, KEY, resume=True)
    Journal.open(tmp_path, KEY, resume=True).close()


def test_full_disk_is_told_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, CHUNKS[:1])

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Journal.open(tmp_path, KEY, resume=True) as journal, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(UserError, match=r"No space left.*--resume"):
            journal.record("pairwise", CHUNKS[1], [make_result(pair) for pair in CHUNKS[1]])
    with Journal.open(tmp_path, KEY, resume=True) as journal:
        assert journal.chunk("pairwise", CHUNKS[0]) is not None


@pytest.mark.parametrize("room", [0, 1, 500, 900])
def test_disk_that_takes_a_part_of_a_record_is_told_and_loses_nothing(tmp_path: Path, room: int) -> None:
    """A limit of the file size stops writing in the middle, as a full disk does; closing must not try again."""
    write(tmp_path, CHUNKS[:1])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (tmp_path / "pairs.jsonl").stat().st_size
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, limits[1]))
        with (
            pytest.raises(UserError, match=r"File too large.*--resume"),
            Journal.open(tmp_path, KEY, resume=True) as journal,
        ):
            journal.record("pairwise", CHUNKS[1], [make_result(pair) for pair in CHUNKS[1]])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "pairs.jsonl").stat().st_size == size + room
    write(tmp_path, resume=True)
    with Journal.open(tmp_path, KEY, resume=True) as journal:
        assert num_finished(journal) == 6


@pytest.mark.parametrize(
    "name", ["pairs.jsonl", "header.json", "patterns", "patterns/pairwise", "patterns/pairwise/0-1.npy"]
)
@pytest.mark.parametrize("put", [lambda path, _: os.mkfifo(path), Path.symlink_to, Path.hardlink_to])
def test_journal_with_links_or_pipes_is_refused(tmp_path: Path, name: str, put: Callable[[Path, Path], object]) -> None:
    """Of somebody else: records would be appended to another file, or the scan would wait for a pipe for ever."""
    write(tmp_path / "journal")
    victim, path = tmp_path / "victim", tmp_path / "journal" / name
    victim.write_bytes(b"no newline at the end")
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    put(path, victim)
    with pytest.raises(UserError, match=f"found {path.name}, which is a link or a device"):
        Journal.open(tmp_path / "journal", KEY, resume=True)
    assert victim.read_bytes() == b"no newline at the end"


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write the journal in .*file"):
        Journal.open(tmp_path / "file", KEY, resume=False)


def test_killed_at_random_moments_loses_no_finished_chunk(tmp_path: Path) -> None:
    """SIGKILL while a process writes a journal again and again; every chunk it said to be kept is there."""
    script = """
        import sys
        from pathlib import Path
        from tests.scanner.store.test_journal import Journal, KEY, make_result
        with Journal.open(Path(sys.argv[1]), KEY, resume=True) as journal:
            for source in range(10_000):
                chunk = [(source, 10_001), (source, 10_002)]
                if journal.chunk("pairwise", chunk) is None:
                    journal.record("pairwise", chunk, [make_result(pair) for pair in chunk])
                    print(source, flush=True)
    """
    rng = np.random.default_rng(0)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told: set[int] = set()
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], env=environment, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            for _ in range(int(rng.integers(3, 40))):
                told.add(int(process.stdout.readline()))
            process.send_signal(signal.SIGKILL)
            told |= {int(line) for line in process.stdout.read().splitlines()}
        with Journal.open(tmp_path, KEY, resume=True) as journal:
            for source in told:
                pairs = [(source, 10_001), (source, 10_002)]
                kept = journal.chunk("pairwise", pairs)
                assert kept is not None
                assert all(same(result, make_result(pair)) for result, pair in zip(kept, pairs, strict=True))
