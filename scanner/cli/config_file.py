"""Options from a file: `backscan.toml`, or the table `[tool.backscan]` of `pyproject.toml`; the command line wins.

A file that `--config` names may set every option. One that merely lies in the folder or above may come with the model,
so it sets only options that cannot hide anything (`Option.from_found_file`), and reports only beneath its own folder.

Keys are the options of `scanner check` without the dashes; paths are relative to the file that names them:

    [tool.backscan]
    data = "images.npz"
    images-per-class = 50
    report = ["scan.html", "scan.sarif"]
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from backscan.scanner.choices.registered import is_import_path
from backscan.scanner.errors import OptionError
from backscan.scanner.store.files import read_text

FILE = "backscan.toml"
PROJECT_FILE = "pyproject.toml"
_TABLE = ("tool", "backscan")
_EXTENSIBLE = ("objective", "statistic", "detector")
_PATHS = ("data", "labels", "class-names", "journal", "report", "baseline", "save-pattern", "reference-reports")


class Parameter(Protocol):
    """What a command line library tells of one option."""

    name: str | None
    """Name of the argument in Python."""
    opts: list[str]
    """Its spellings, such as `--images-per-class`."""
    secondary_opts: list[str]
    """Spellings that switch it off."""
    multiple: bool
    """Whether it may be given several times."""
    nargs: int
    """Values it takes at once."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The options that a file sets."""

    path: Path
    """The file."""
    values: Mapping[str, Any]
    """Options by their name without dashes."""
    found: bool
    """Whether nobody named the file: it was found."""


def find_configuration(folder: Path) -> Configuration | None:
    """The options of the nearest folder, upwards, that has a file with options.

    Args:
        folder: Where to start, normally the working directory.

    Raises:
        OptionError: a file that cannot be read or is no TOML.
    """
    for place in (folder, *folder.parents):
        for path in (place / FILE, place / PROJECT_FILE):
            values = _read(path) if path.is_file() else None
            if values is not None:
                return Configuration(path, values, found=True)
    return None


def read_configuration(path: Path) -> Configuration:
    """The options of a file that was named.

    Raises:
        OptionError: a file that cannot be read, is no TOML or has no options.
    """
    values = _read(path)
    if values is None:
        raise OptionError(f"expected a table [{'.'.join(_TABLE)}] in {path} (--config), found none: add it")
    return Configuration(path, values, found=False)


def defaults(
    configuration: Configuration, parameters: Iterable[Parameter], from_found_file: Collection[str]
) -> dict[str, Any]:
    """The file's options as defaults of a command, by the name of the argument in Python.

    Args:
        configuration: What the file sets.
        parameters: Options of the command.
        from_found_file: Arguments that a file may set which was merely found.

    Raises:
        OptionError: an option that the command lacks or the file may not set, or a value of another kind.
    """
    parameters = list(parameters)
    if configuration.found:
        _refuse_from_found_file(configuration, parameters, from_found_file)
    return {parameter.name or "": value for parameter, value in _chosen(configuration, parameters)}


def arguments(configuration: Configuration, parameters: Iterable[Parameter], given: Sequence[str]) -> list[str]:
    """The file's options as they would be written on the command line, without those that were given there.

    Args:
        configuration: What the file sets.
        parameters: Options of the command.
        given: Arguments of the command line, which win.
    """
    spelled = {argument.partition("=")[0] for argument in given}
    return [
        part
        for parameter, value in _chosen(configuration, parameters)
        if spelled.isdisjoint([*parameter.opts, *parameter.secondary_opts])
        for part in _spelled(parameter, value)
    ]


def _chosen(configuration: Configuration, parameters: Iterable[Parameter]) -> Iterator[tuple[Parameter, Any]]:
    known = {_key(parameter): parameter for parameter in parameters if _key(parameter)}
    for key, value in configuration.values.items():
        if key not in known:
            raise OptionError(_unknown(key, known, configuration.path))
        yield known[key], _value(key, value, known[key], configuration.path)


def _refuse_from_found_file(
    configuration: Configuration, parameters: Iterable[Parameter], from_found_file: Collection[str]
) -> None:
    """Refuse what a file may not set that nobody named, and reports outside its folder."""
    path = configuration.path
    refused = [
        _key(parameter) for parameter, _ in _chosen(configuration, parameters) if parameter.name not in from_found_file
    ]
    if refused:
        raise OptionError(
            f"expected {', '.join(refused)} on the command line, found it in {path}, which nobody named and which may "
            f"have come with the model: give --{refused[0]}, or --config {path.name} if you trust all of that file"
        )
    for report in _listed(configuration.values.get("report", [])):
        if report != "-" and not _is_beneath(path.parent / report, path.parent):
            raise OptionError(
                f"expected reports beneath {path.parent}, found {report} in {path}, which nobody named and which may "
                f"have come with the model: give --report, or --config {path.name} if you trust all of that file"
            )


def _is_beneath(path: Path, folder: Path) -> bool:
    """Whether a path stays in a folder when all links are followed."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, or what is no path
        return False


def _read(path: Path) -> Mapping[str, Any] | None:
    table = _TABLE if path.name == PROJECT_FILE else ()
    try:
        values: Any = tomllib.loads(read_text(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise OptionError(f"expected a TOML file with options at {path}, found: {error}") from error
    for name in table:
        values = values.get(name) if isinstance(values, dict) else None
    if values is not None and not isinstance(values, dict):
        raise OptionError(f"expected a table [{'.'.join(table)}] in {path}, found {type(values).__name__}")
    return values


def _key(parameter: Parameter) -> str:
    long = [spelling for spelling in getattr(parameter, "opts", []) if spelling.startswith("--")]
    return long[0].removeprefix("--") if long else ""


def _unknown(key: str, known: Iterable[str], path: Path) -> str:
    close = difflib.get_close_matches(key.replace("_", "-"), list(known), n=1)
    hint = f"did you mean {close[0]}?" if close else "see `scanner check --help-all`"
    return f"expected an option of `scanner check` in {path}, found {key!r}: {hint}"


def _value(key: str, value: Any, parameter: Parameter, path: Path) -> Any:
    """`value` as the command line would give it."""
    if key in _PATHS:
        return _placed(key, value, parameter, path)
    if isinstance(value, dict):
        raise OptionError(f"expected {key!r} in {path} to be a value or a list, found a table")
    if not all(isinstance(each, str | int | float) for each in _listed(value)):
        raise OptionError(f"expected {key!r} in {path} to be a text, a number or a list of those, found something else")
    if key in _EXTENSIBLE and any(map(is_import_path, _listed(value))):
        raise OptionError(
            f"expected the name of a variant for {key!r} in {path}, found an import path, which runs code: a program "
            "registers it (docs/api.md), a file does not"
        )
    if isinstance(value, list) and not parameter.multiple and parameter.nargs == 1:
        return ",".join(map(str, value))  # options such as --mean take a list as text
    if parameter.multiple and not isinstance(value, list):
        return [value]
    return value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _placed(key: str, value: Any, parameter: Parameter, path: Path) -> Any:
    values = _listed(value)
    if not all(isinstance(each, str) and "\0" not in each for each in values):
        raise OptionError(f"expected {key!r} in {path} to name a file or folder, found {value!r}")
    placed = [each if each == "-" else str(path.parent / each) for each in values]
    if len(placed) != 1 and not parameter.multiple:
        raise OptionError(f"expected {key!r} in {path} to name one file or folder, found {len(placed)}")
    return placed if parameter.multiple else placed[0]


def _spelled(parameter: Parameter, value: Any) -> Iterator[str]:
    if isinstance(value, bool):
        spelling = parameter.opts if value else parameter.secondary_opts
        yield from spelling[:1]
        return
    for each in value if parameter.multiple else [value]:
        yield parameter.opts[0]
        yield from map(str, each if isinstance(each, list) else [each])
