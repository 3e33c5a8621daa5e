"""A journal can come from somebody else: what no search gives is searched again; nothing fails or fills the memory."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.results import ScanResult
from backscan.scanner.store.journal import _digest, _seal
from backscan.scanner.store.journal_files import MAX_PATTERN_BYTES
from tests.scanner.pipeline.scans import QUICK, SOURCE, TARGET, write_images, write_model

Record = dict[str, Any]
CONFIG = replace(QUICK, bootstrap_draws=99)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CleanSet]:
    folder = tmp_path_factory.mktemp("scene")
    return write_model(folder), CleanSet.load(write_images(folder))


@pytest.fixture(scope="module")
def expected(scene: tuple[Path, CleanSet]) -> dict[str, Any]:
    return comparable(scan(*scene, CONFIG))


def comparable(result: ScanResult) -> dict[str, Any]:
    document = result.to_dict()
    del document["timings"], document["finished"]
    return document


def array(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def declared(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(64)


PATTERNS = {
    "another shape": array(np.zeros((7, 7), np.float32)),
    "no numbers at all": array(np.array(["a", "b"])),
    "not a number": array(np.full((1, 6, 6), np.nan, np.float32)),
    "a terabyte of numbers": declared((10**12,)),
    "more numbers than an integer counts": declared((2**40, 2**40)),
    "fewer than no numbers": declared((-16, 1)),
    "another format": b"\x93NUMPY\x09\x00" + bytes(80),
    "a file too large": bytes(MAX_PATTERN_BYTES + 1),
}

RESULTS: dict[str, Callable[[Record], object]] = {
    "another detector": lambda result: result.update(detector="margin"),
    "a negative size": lambda result: result.update(size=-1.0),
    "a size that no float32 holds": lambda result: result.update(size=1e200),
    "a margin that no float32 holds": lambda result: result.update(clean_margin=1e-200),
    "a rate above 1": lambda result: result.update(rate=3.0),
    "no trajectory": lambda result: result.update(trajectory={"sizes": [], "rates": []}),
    "another pair": lambda result: result.update(target=0),
}


def forge(folder: Path, change: Callable[[list[Record]], list[Record]]) -> None:
    """Rewrite the records of a journal, each with a digest that is right."""
    lines = folder / "pairs.jsonl"
    records = [json.loads(line) for line in lines.read_bytes().splitlines()]
    for record in records:
        del record["digest"]
    lines.write_bytes(b"".join(_seal(record) + b"\n" for record in change(records)))


def of_the_backdoor(change: Callable[[Record], object]) -> Callable[[list[Record]], list[Record]]:
    """A change of the record whose pattern is replayed."""

    def changed(records: list[Record]) -> list[Record]:
        [record] = [
            record
            for record in records
            if record["kind"] == "pair" and (record["result"]["source"], record["result"]["target"]) == (SOURCE, TARGET)
        ]
        change(record)
        return records

    return changed


@pytest.mark.parametrize("name", PATTERNS)
def test_pattern_that_is_none_is_searched_again(
    tmp_path: Path, scene: tuple[Path, CleanSet], expected: dict[str, Any], name: str
) -> None:
    scan(*scene, CONFIG, journal=tmp_path)
    next((tmp_path / "patterns").rglob(f"{SOURCE}-{TARGET}.npy")).write_bytes(PATTERNS[name])
    forge(tmp_path, of_the_backdoor(lambda record: record.update(pattern=_digest(PATTERNS[name]))))
    assert comparable(scan(*scene, CONFIG, journal=tmp_path, resume=True)) == expected


@pytest.mark.parametrize("name", RESULTS)
def test_result_that_no_search_gives_is_searched_again(
    tmp_path: Path, scene: tuple[Path, CleanSet], expected: dict[str, Any], name: str
) -> None:
    scan(*scene, CONFIG, journal=tmp_path)
    forge(tmp_path, of_the_backdoor(lambda record: RESULTS[name](record["result"])))
    assert comparable(scan(*scene, CONFIG, journal=tmp_path, resume=True)) == expected


def test_result_without_its_pattern_is_searched_again(
    tmp_path: Path, scene: tuple[Path, CleanSet], expected: dict[str, Any]
) -> None:
    scan(*scene, CONFIG, journal=tmp_path)
    forge(tmp_path, of_the_backdoor(lambda record: record.update(pattern=None)))
    assert comparable(scan(*scene, CONFIG, journal=tmp_path, resume=True)) == expected


def test_chunk_that_lists_fewer_pairs_is_searched_again(
    tmp_path: Path, scene: tuple[Path, CleanSet], expected: dict[str, Any]
) -> None:
    scan(*scene, CONFIG, journal=tmp_path)
    forge(
        tmp_path,
        lambda records: [r | {"pairs": r["pairs"][:1]} if r["kind"] == "chunk" else r for r in records],
    )
    assert comparable(scan(*scene, CONFIG, journal=tmp_path, resume=True)) == expected


def test_line_and_header_without_end_do_not_fill_the_memory(tmp_path: Path, scene: tuple[Path, CleanSet]) -> None:
    """Sparse files of a terabyte take no room on the disk, and would take all of the memory."""
    scan(*scene, CONFIG, journal=tmp_path / "header")
    with (tmp_path / "header" / "header.json").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(Exception, match="expected the header of a journal"):
        scan(*scene, CONFIG, journal=tmp_path / "header", resume=True)
    scan(*scene, CONFIG, journal=tmp_path / "line")
    lines = tmp_path / "line" / "pairs.jsonl"
    size = lines.stat().st_size
    with lines.open("r+b") as file:
        file.truncate(1 << 40)
    scan(*scene, CONFIG, journal=tmp_path / "line", resume=True)
    assert lines.stat().st_size == size  # nothing was searched again, and what followed is gone
