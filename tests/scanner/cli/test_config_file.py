from dataclasses import dataclass, field
from pathlib import Path

import pytest

from backscan.scanner.cli.config_file import Configuration, arguments, defaults, find_configuration
from backscan.scanner.errors import OptionError


@dataclass
class Option:
    """An option as a command line library describes it."""

    name: str
    opts: list[str]
    secondary_opts: list[str] = field(default_factory=list)
    multiple: bool = False
    nargs: int = 1


OPTIONS = (
    Option("models", ["models"]),
    Option("data", ["--data"]),
    Option("images_per_class", ["--images-per-class"]),
    Option("mean", ["--mean"]),
    Option("range_", ["--range"], nargs=2),
    Option("box", ["--box"], ["--clip"]),
    Option("report", ["--report"], multiple=True),
)


def write(folder: Path, text: str, name: str = "backscan.toml") -> Configuration:
    (folder / name).write_text(text, encoding="utf-8")
    found = find_configuration(folder)
    assert found is not None
    return found


def test_values_become_what_the_command_line_would_give(tmp_path: Path) -> None:
    found = write(
        tmp_path,
        """
        data = "images.npz"
        images-per-class = 50
        mean = [0.5, 0.25, 0.5]
        range = [0, 255]
        box = true
        report = ["out/scan.html", "-"]
        """,
    )
    assert defaults(found, OPTIONS) == {
        "data": str(tmp_path / "images.npz"),
        "images_per_class": 50,
        "mean": "0.5,0.25,0.5",
        "range_": [0, 255],
        "box": True,
        "report": [str(tmp_path / "out/scan.html"), "-"],
    }


def test_one_value_of_a_repeatable_option(tmp_path: Path) -> None:
    assert defaults(write(tmp_path, 'report = "a.md"'), OPTIONS) == {"report": [str(tmp_path / "a.md")]}


def test_the_command_that_repeats_names_every_option_once(tmp_path: Path) -> None:
    found = write(tmp_path, 'data = "i.npz"\nrange = [0, 1]\nbox = false\nreport = ["a.md", "b.md"]\nmean = [1, 2]')
    assert arguments(found, OPTIONS, ["check", "m.onnx", "--data=other.npz"]) == [
        "--range",
        "0",
        "1",
        "--clip",
        "--report",
        str(tmp_path / "a.md"),
        "--report",
        str(tmp_path / "b.md"),
        "--mean",
        "1,2",
    ]
    assert (
        arguments(found, OPTIONS, ["--data", "x", "--range", "0", "2", "--box", "--report", "c", "--mean", "3"]) == []
    )


def test_the_nearest_file_wins(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    write(tmp_path, "images-per-class = 1")
    write(tmp_path, "[tool.backscan]\nimages-per-class = 2", "pyproject.toml")
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.other]\nx = 1", encoding="utf-8")
    found = find_configuration(inner)
    assert found is not None
    assert (found.path, found.values) == (tmp_path / "backscan.toml", {"images-per-class": 1})
    (tmp_path / "backscan.toml").unlink()
    found = find_configuration(inner)
    assert found is not None
    assert found.values == {"images-per-class": 2}


def test_no_file_no_options(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.other]", encoding="utf-8")
    found = find_configuration(tmp_path)
    assert found is None or tmp_path not in found.path.parents


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("images_per_class = 3", "found 'images_per_class': did you mean images-per-class"),
        ("frobnicate = 3", "found 'frobnicate': see `scanner check --help`"),
        ("models = 3", "found 'models'"),
        ("data = 3", "'data' in .* to name a file or folder, found 3"),
        ("report = [3]", "'report' in .* to name a file or folder"),
        ("mean = {a = 1}", "'mean' in .* found a table"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        defaults(write(tmp_path, text), OPTIONS)


@pytest.mark.parametrize(
    ("name", "text"),
    [("backscan.toml", "x = "), ("pyproject.toml", "[tool]\nbackscan = 3"), ("pyproject.toml", "\x00")],
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(OptionError, match=name):
        write(tmp_path, text, name)
