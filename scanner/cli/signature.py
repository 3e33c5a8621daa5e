"""The signatures that typer reads, made from the fields of `ScanConfig` and from groups of options.

A command takes a few values: options of its own, groups of them (dataclasses whose fields are options), and what was
given for fields of `ScanConfig`. `spread` puts all of them side by side, as the command line has them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from inspect import Parameter
from types import UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from backscan.scanner.choices import told
from backscan.scanner.cli.lists import READERS, read_list
from backscan.scanner.config import OPTIONS, ScanConfig, flag, spelling
from backscan.scanner.errors import ExitCode
from backscan.scanner.option import PANELS

_DEFAULTS = ScanConfig()
_KINDS = get_type_hints(ScanConfig)
_Collect = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Fields:
    """Marks a parameter that takes what was given for some fields of `ScanConfig`, by name."""

    names: tuple[str, ...]
    """The fields."""

    def collect(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that were given.

        Raises:
            OptionError: text that is no list of what it should be.
        """
        read = {name: _read(name, values[name]) for name in self.names}
        return {name: value for name, value in read.items() if value is not None}


def spread(command: Callable[..., ExitCode]) -> Callable[..., ExitCode]:
    """The command with every option a parameter of its own, in the order of the panels."""
    parts = {parameter.name: _part(parameter) for parameter in _parameters(command)}
    listed = sorted((each for parameters, _ in parts.values() for each in parameters), key=_place)

    @functools.wraps(command)
    def run(**values: Any) -> ExitCode:
        return command(**{name: collect(values) for name, (_, collect) in parts.items()})

    run.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in listed}
    return run


def _part(parameter: Parameter) -> tuple[list[Parameter], _Collect]:
    """The options behind one parameter of a command, and how their values become its own."""
    kind = parameter.annotation
    for mark in get_args(kind):
        if isinstance(mark, Fields):
            return [_option(name) for name in mark.names], mark.collect
    if isinstance(kind, type) and is_dataclass(kind):
        inner = _parameters(kind)
        return inner, lambda values: kind(**{each.name: values[each.name] for each in inner})
    return [parameter], lambda values: values[parameter.name]


def _parameters(function: Callable[..., Any]) -> list[Parameter]:
    """Parameters with their annotations evaluated; by keyword only, so that they may stand in any order."""
    hints = get_type_hints(function, include_extras=True)
    return [
        each.replace(annotation=hints[each.name], kind=Parameter.KEYWORD_ONLY)
        for each in inspect.signature(function).parameters.values()
    ]


def _place(parameter: Parameter) -> int:
    panel = parameter.annotation.__metadata__[0].rich_help_panel
    return PANELS.index(panel) if panel in PANELS else -1


def _option(name: str) -> Parameter:
    """The option of a field. One that is not given is None, unless its default is shown."""
    option, kind = OPTIONS[name], _written(name)
    default = False if option.switches_off else getattr(_DEFAULTS, name) if option.shown else None
    info = typer.Option(spelling(name), help=told(name), rich_help_panel=option.panel)
    annotation: Any = Annotated[kind if default is not None else kind | None, info]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _written(name: str) -> Any:
    """The type that the command line reads for a field: a list is one text with commas, or an option to repeat."""
    item = _item(name)
    if item is None:
        return _bare(name)
    return str if item in READERS else list[item]  # type: ignore[valid-type]


def _bare(name: str) -> Any:
    """The type of a field without None."""
    kind = _KINDS[name]
    return get_args(kind)[0] if isinstance(kind, UnionType) else kind


def _item(name: str) -> Any:
    """The type of the items of a field of any length; None for other fields."""
    kind = _bare(name)
    return get_args(kind)[0] if get_origin(kind) is tuple and ... in get_args(kind) else None


def _read(name: str, value: Any) -> Any:
    """The field's value from the command line's; None if it was not given."""
    if OPTIONS[name].switches_off:
        return False if value else None
    if isinstance(value, list):
        return tuple(value) or None
    if isinstance(value, str) and _item(name) in READERS:
        return read_list(value, flag(name), _item(name))
    return value
