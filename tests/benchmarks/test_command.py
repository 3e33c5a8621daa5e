"""The commands that the guide names are there, and what they share keeps what they found."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from benchmarks.command import append_line, publish, read_lines, replace_text
from benchmarks.table import Table, grid, page

ROOT = Path(__file__).parents[2]
NAMING = (*ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "scanner" / "samples" / "truth.json")
NAMING += (*(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.md"))
NAMED = re.compile(r"python -m (benchmarks(?:\.\w+)+)")
COMMANDS = sorted({name for path in NAMING for name in NAMED.findall(path.read_text(encoding="utf-8"))})


def test_commands_are_found_in_the_guide_and_the_makefile() -> None:
    assert {"benchmarks.accuracy", "benchmarks.base_counts", "benchmarks.fuzz", "benchmarks.victims"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_named_command_says_how_it_is_used(name: str, monkeypatch, capsys) -> None:
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{name}.__main__")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert not ended.value.code
    assert "usage:" in capsys.readouterr().out
    assert 'if __name__ == "__main__":' in Path(module.__file__).read_text(encoding="utf-8"), "python -m runs nothing"


def test_a_page_and_its_figures_go_into_a_new_folder(tmp_path: Path) -> None:
    publish(None, "table", "page\n", [1])
    publish(tmp_path / "new", "table", "page\n", {"rows": [1]})
    assert (tmp_path / "new" / "table.md").read_text() == "page\n"
    assert json.loads((tmp_path / "new" / "table.json").read_text()) == {"rows": [1]}
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["table.json", "table.md"]


def test_lines_are_appended_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    assert read_lines(None) == read_lines(path) == []
    for document in ({"a": 1}, {"a": [2, 3]}):
        append_line(None, document)
        append_line(path, document)
    assert read_lines(path) == [{"a": 1}, {"a": [2, 3]}]


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    replace_text(path, "before")
    with pytest.raises(UnicodeEncodeError):
        replace_text(path, "a" * 100_000 + "\ud800")
    assert path.read_text() == "before"


def test_tables_are_aligned_and_a_bar_stays_in_its_cell() -> None:
    assert grid(("a", "b"), [(1, "x|y")], "lr") == ["| a | b |", "|---|---:|", "| 1 | x\\|y |"]
    table = Table("Title", "How to read it.", ("a",), (("1",),))
    assert table.markdown() == "## Title\n\nHow to read it.\n\n| a |\n| --- |\n| 1 |"


def test_a_page_has_a_blank_line_before_each_block_and_leaves_empty_ones_out() -> None:
    assert page("Title", "text", ["- one", "- two"], [], "") == "# Title\n\ntext\n\n- one\n- two\n"
