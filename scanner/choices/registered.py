"""What users add to the tables of variants: import paths, each loaded by the process that uses it.

The tables stay literal, so that their text has every name that ships. What is registered is a second mapping beside
them, of this process; the process that holds the model gets the paths before it opens the model. An import path runs
code, so it comes from a program alone, never from a file.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from backscan.scanner.errors import OptionError

Entry = TypeVar("Entry")

OPERATORS = "OPERATORS"
"""The table that has no mapping here: converters of operators register themselves when they are imported."""
TABLES: Mapping[str, str] = {
    "OBJECTIVES": "objective",
    "STATISTICS": "statistic",
    "DETECTORS": "detector of class pairs",
    "TARGET_DETECTORS": "detector of target classes",
    "RATE_DETECTORS": "detector of target classes that decides",
    OPERATORS: "operator",
}
"""Tables that can be extended, and what an entry of each is called."""
_SEARCHES = {"pairs": "DETECTORS", "targets": "TARGET_DETECTORS", "rates": "RATE_DETECTORS"}
_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_DYNAMIC = re.compile(r"import \*|__getattr__|globals\(|setattr\(|exec\(")
"""Ways by which a module has names that its text does not."""
_paths: dict[str, dict[str, None]] = {table: {} for table in TABLES}


def is_import_path(text: object) -> bool:
    """Whether a text has the form `package.module:name`."""
    return isinstance(text, str) and _PATH.fullmatch(text) is not None


def register_objective(path: str) -> str:
    """Add an objective, for `ScanConfig(objective=path)`.

    Args:
        path: Import path `package.module:name` of a function (log p, log of the rest) -> log weight, all [P, N], or of
            an `Objective`. The process that holds the model imports it, before it opens the model.

    Returns:
        The path, which is also the name of the objective.

    Raises:
        OptionError: no import path, or nothing is there.
    """
    return _add("OBJECTIVES", path)


def register_statistic(path: str) -> str:
    """Add a statistic, for `ScanConfig(statistics=(path,))`.

    Args:
        path: Import path `package.module:name` of a function reciprocals [..., K, K] -> [..., K, K] or [..., 1, K].

    Returns:
        The path, which is also the name of the statistic.

    Raises:
        OptionError: no import path, or nothing is there.
    """
    return _add("STATISTICS", path)


def register_detector(path: str, *, searches: str = "pairs") -> str:
    """Add a detector, for `ScanConfig(detectors=(path,))`.

    Args:
        path: Import path `package.module:name` of a `Detector`, `TargetDetector` or `RateDetector`; its results carry
            the path as their detector.
        searches: What it searches: `pairs` of classes, `targets` (it informs) or `rates` of targets (it decides).

    Returns:
        The path, which is also the name of the detector.

    Raises:
        OptionError: no import path, nothing is there, or another word for what it searches.
    """
    if searches not in _SEARCHES:
        raise OptionError(f"expected searches to be one of {', '.join(_SEARCHES)}, found {searches!r}")
    return _add(_SEARCHES[searches], path)


def register_operator(path: str) -> str:
    """Add converters of ONNX operators: those that a module registers with `converters.operators.registry.register`.

    Args:
        path: Import path `package.module:name` of one of them; the module is imported where models are opened.

    Returns:
        The path.

    Raises:
        OptionError: no import path, or nothing is there.
    """
    return _add(OPERATORS, path)


def register(table: str, path: str) -> str:
    """Make an import path an entry of a table, in this process and in those that hold models for it.

    Args:
        table: One of `TABLES`.
        path: `package.module:name`.

    Returns:
        The path, which is also the name of the entry.

    Raises:
        OptionError: no import path.
    """
    if not is_import_path(path):
        raise OptionError(
            f"expected the import path of the {TABLES[table]} as package.module:name, found {path!r}: the module has "
            "to be importable in a new process"
        )
    _paths[table][path] = None
    return path


def _add(table: str, path: str) -> str:
    """What `register` does, for a program: what does not exist is refused where the program names it.

    Raises:
        OptionError: no import path, or nothing is there.
    """
    if is_import_path(path) and (why := why_absent(path)):
        raise OptionError(f"expected {path!r} to be the import path of the {TABLES[table]}, found {why}")
    return register(table, path)


def why_absent(path: str) -> str:
    """Why an import path names nothing, as far as that shows without running its module.

    Args:
        path: `package.module:name`; packages above the module are imported.

    Returns:
        What was found in its place and what to do; empty where it names something, or may.
    """
    module, _, name = path.partition(":")
    if module == "__main__":
        return "the program itself, which no other process can import: put what it names into a module"
    if module in sys.modules:
        return "" if hasattr(sys.modules[module], name) else f"nothing called {name} in {module}: check the name"
    try:
        spec = importlib.util.find_spec(module)
        source = getattr(spec and spec.loader, "get_source", lambda _: None)(module)
    except Exception as error:  # somebody's package may raise anything while it is imported
        return f"{type(error).__name__}: {error}: put the module where Python finds it"
    if spec is None:
        return f"no module {module}: put it where Python finds it"
    if not source or re.search(rf"\b{name}\b", source) or _DYNAMIC.search(source):
        return ""
    return f"nothing called {name} in {spec.origin}: check the name"


def forget() -> None:
    """Take back all that was registered; for tests."""
    for paths in _paths.values():
        paths.clear()


def names_in(table: str) -> tuple[str, ...]:
    """Import paths that were registered for a table, in their order."""
    return tuple(_paths.get(table, ()))


def every() -> tuple[tuple[str, str], ...]:
    """Table and import path of all that was registered."""
    return tuple((table, path) for table, paths in _paths.items() for path in paths)


def folders() -> tuple[str, ...]:
    """The working folder, if something that was registered lies there and this process finds it there.

    The process that holds the model leaves that folder out of its module path, as a model may lie there beside a file
    that is called like a library.
    """
    here = Path.cwd()
    if str(here) not in map(os.path.abspath, sys.path):
        return ()
    tops = {path.partition(":")[0].partition(".")[0] for _, path in every()}
    return (str(here),) if any((here / top).is_dir() or (here / f"{top}.py").exists() for top in tops) else ()


def told() -> tuple[str, ...]:
    """What was registered, for reports."""
    return tuple(f"{TABLES[table]} {path}" for table, path in every())


@cache
def load(path: str) -> Any:
    """What an import path names.

    Raises:
        OptionError: the module cannot be imported, or has nothing of that name.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # somebody's module may raise anything while it is imported
        raise OptionError(
            f"expected {path!r} to be importable in the process that uses it, found {type(error).__name__}: {error}; "
            "put the module where Python finds it"
        ) from error


class Extensible(Mapping[str, Entry], Generic[Entry]):
    """A literal table, with what was registered for it behind its own entries."""

    def __init__(self, literal: Mapping[str, Entry], *, table: str, made: Callable[[str, Any], Entry]) -> None:
        """Keep a table.

        Args:
            literal: Its entries.
            table: Its name in `TABLES`.
            made: Makes an entry of a path and of what it names; raises TypeError where that is none.
        """
        self._literal = dict(literal)
        self._table = table
        self._made = made

    def __getitem__(self, name: str) -> Entry:
        if name in self._literal:
            return self._literal[name]
        if name not in _paths[self._table]:
            raise KeyError(name)
        try:
            return self._made(name, load(name))
        except TypeError as error:
            raise OptionError(f"expected {name!r} to be an {TABLES[self._table]}, found otherwise: {error}") from error

    def __contains__(self, name: object) -> bool:
        return name in self._literal or name in _paths[self._table]  # which loads nothing

    def __iter__(self) -> Iterator[str]:
        yield from self._literal
        yield from _paths[self._table]

    def __len__(self) -> int:
        return len(self._literal) + len(_paths[self._table])


def callable_entry(path: str, value: Any) -> Any:
    """An entry that is a function, as it is.

    Raises:
        TypeError: it cannot be called.
    """
    if not callable(value):
        raise TypeError(f"{path} is a {type(value).__name__} and no function")
    return value
