from dataclasses import dataclass, field
from pathlib import Path

import pytest

from backscan.scanner.cli.config_file import (
    Configuration,
    arguments,
    defaults,
    find_configuration,
    read_configuration,
)
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
    Option("sandbox", ["--no-sandbox"]),
    Option("journal", ["--journal"]),
)
SAFE = {"data", "images_per_class", "mean", "range_", "report"}


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
        report = ["out/scan.html", "-"]
        """,
    )
    assert defaults(found, OPTIONS, SAFE) == {
        "data": str(tmp_path / "images.npz"),
        "images_per_class": 50,
        "mean": "0.5,0.25,0.5",
        "range_": [0, 255],
        "report": [str(tmp_path / "out/scan.html"), "-"],
    }


def test_a_file_that_was_named_sets_every_option(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('box = true\nno-sandbox = true\nreport = "../x.md"', encoding="utf-8")
    assert defaults(read_configuration(tmp_path / "own.toml"), OPTIONS, SAFE) == {
        "box": True,
        "sandbox": True,
        "report": [f"{tmp_path}/../x.md"],
    }


@pytest.mark.parametrize("key", ["box", "no-sandbox", "journal"])
@pytest.mark.parametrize("name", ["backscan.toml", "pyproject.toml"])
def test_a_file_that_was_found_sets_harmless_options_only(tmp_path: Path, name: str, key: str) -> None:
    table = "[tool.backscan]\n" if name == "pyproject.toml" else ""
    value = '"x"' if key == "journal" else "true"
    found = write(tmp_path, f"{table}images-per-class = 9\n{key} = {value}", name)
    with pytest.raises(OptionError, match=rf"expected {key} on the command line.*{name}.*--config {name}"):
        defaults(found, OPTIONS, SAFE)
    assert defaults(read_configuration(tmp_path / name), OPTIONS, SAFE)["images_per_class"] == 9


@pytest.mark.parametrize("report", ["../x.md", "/x.md", "link/x.md", "a/../../x.md", "linked.md", "loop/x.md"])
def test_a_file_that_was_found_has_nothing_written_outside_its_folder(tmp_path: Path, report: str) -> None:
    own = tmp_path / "own"
    (own / "a").mkdir(parents=True)
    (own / "link").symlink_to(tmp_path)
    (own / "linked.md").symlink_to(tmp_path / "README.md")
    (own / "loop").symlink_to("loop")
    with pytest.raises(OptionError, match="expected reports beneath"):
        defaults(write(own, f'report = ["a/in.md", "{report}"]'), OPTIONS, SAFE)


def test_a_named_file_without_options_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.other]", encoding="utf-8")
    with pytest.raises(OptionError, match=r"\[tool.backscan\].*--config.*found none"):
        read_configuration(tmp_path / "pyproject.toml")
    with pytest.raises(OptionError, match="expected a TOML file"):
        read_configuration(tmp_path / "absent.toml")


def test_one_value_of_a_repeatable_option(tmp_path: Path) -> None:
    assert defaults(write(tmp_path, 'report = "a.md"'), OPTIONS, SAFE) == {"report": [str(tmp_path / "a.md")]}


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
    assert found.found
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
        ("frobnicate = 3", "found 'frobnicate': see `scanner check --help-all`"),
        ("models = 3", "found 'models'"),
        ("data = 3", "'data' in .* to name a file or folder, found 3"),
        ("report = [3]", "'report' in .* to name a file or folder"),
        ("mean = {a = 1}", "'mean' in .* found a table"),
        ("images-per-class = 1979-05-27", "'images-per-class' in .* a text, a number or a list"),
        ("range = [[0], [1]]", "'range' in .* a text, a number or a list"),
        ('data = ["a", "b"]', "'data' in .* to name one file or folder, found 2"),
        ('data = "a\\u0000b"', "'data' in .* to name a file or folder"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        defaults(write(tmp_path, text), OPTIONS, SAFE)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("backscan.toml", "x = "),
        ("pyproject.toml", "[tool]\nbackscan = 3"),
        ("pyproject.toml", "\x00"),
        ("backscan.toml", "x = " + "[" * 100_000),
    ],
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(OptionError, match=name):
        write(tmp_path, text, name)
