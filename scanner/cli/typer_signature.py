"""The signatures that typer reads, made from dataclasses whose fields are options.

A command takes a few values: such dataclasses, what was given for some fields of one, and options of its own. `spread`
puts all of their options side by side, as the command line has them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from inspect import Parameter
from types import UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from backscan.scanner.choices import PANELS, Option, options_of, told
from backscan.scanner.cli.lists import READERS, read_list
from backscan.scanner.errors import ExitCode

_Collect = Callable[[Mapping[str, Any]], Any]


class Fields:
    """Marks a parameter that takes what was given for some options of a dataclass, by name.

    Args:
        kind: The dataclass.
        names: Its fields; none is all of them.
    """

    def __init__(self, kind: Any, names: Iterable[str] = ()) -> None:
        hints, options = get_type_hints(kind), options_of(kind)
        self._fields = {name: (hints[name], options[name]) for name in names or options}

    def parameters(self) -> list[Parameter]:
        """How typer reads them."""
        return [_parameter(name, hint, option) for name, (hint, option) in self._fields.items()]

    def collect(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those that were given.

        Raises:
            OptionError: text that is no list of what it should be.
        """
        read = {name: _read(values[name], hint, option) for name, (hint, option) in self._fields.items()}
        return {name: value for name, value in read.items() if value is not None}


def spread(command: Callable[..., ExitCode]) -> Callable[..., ExitCode]:
    """The command with every option a parameter of its own, in the order of the panels."""
    parts = {parameter.name: _part(parameter) for parameter in _parameters(command)}
    arranged = sorted((each for parameters, _ in parts.values() for each in parameters), key=_place)

    @functools.wraps(command)
    def run(**values: Any) -> ExitCode:
        return command(**{name: collect(values) for name, (_, collect) in parts.items()})

    run.__signature__ = inspect.Signature(arranged)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in arranged}
    return run


def _part(parameter: Parameter) -> tuple[list[Parameter], _Collect]:
    """The options behind one parameter of a command, and how their values become its own."""
    kind = parameter.annotation
    for mark in get_args(kind):
        if isinstance(mark, Fields):
            return mark.parameters(), mark.collect
    if isinstance(kind, type) and is_dataclass(kind):
        group = Fields(kind)
        return group.parameters(), lambda values: kind(**group.collect(values))
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


def _parameter(name: str, hint: Any, option: Option) -> Parameter:
    """The parameter of an option. One that is not given is None, unless its default is shown."""
    kind = _written(hint)
    default = False if option.switches_off else option.default if option.shown else None
    info = typer.Option(option.flag, help=told(option), rich_help_panel=option.panel)
    annotation: Any = Annotated[kind if default is not None else kind | None, info]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _written(hint: Any) -> Any:
    """The type that the command line reads for a field: a list is one text with commas, or an option to repeat."""
    item = _item(hint)
    if item is None:
        return _bare(hint)
    return str if item in READERS else list[item]  # type: ignore[valid-type]


def _bare(hint: Any) -> Any:
    """The type of a field without None."""
    return get_args(hint)[0] if isinstance(hint, UnionType) else hint


def _item(hint: Any) -> Any:
    """The type of the items of a field of any length; None for other fields."""
    kind = _bare(hint)
    return get_args(kind)[0] if get_origin(kind) is tuple and ... in get_args(kind) else None


def _read(value: Any, hint: Any, option: Option) -> Any:
    """The field's value from the command line's; None if it was not given."""
    if option.switches_off:
        return False if value else None
    if isinstance(value, list):
        return tuple(value) or None
    if isinstance(value, str) and _item(hint) in READERS:
        return read_list(value, option.spelled, _item(hint))
    return value
