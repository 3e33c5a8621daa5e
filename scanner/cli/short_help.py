"""Help of two lengths: the options that most scans need, and all of them on demand."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Annotated, Any

import typer
from typer.models import OptionInfo

from backscan.scanner.errors import ExitCode

HELP_ALL = "help_all"
"""Argument behind `--help-all`."""
COMMON = frozenset(
    {
        *("data", "labels", "class_names", "preprocess"),
        *("report", "format_", "baseline", "fail_on"),
        *("time_limit", "journal", "resume", "config_file"),
    }
)
"""Arguments of `check` that its `--help` tells; `--help-all` tells the rest too."""


def common_first(command: Callable[..., ExitCode]) -> Callable[..., ExitCode]:
    """The command with `--help-all`, and a `--help` without the options that are not common."""

    @functools.wraps(command)
    def run(**values: Any) -> ExitCode:
        del values[HELP_ALL]  # handled by its callback
        return command(**values)

    parameters = [*inspect.signature(command).parameters.values()]
    for each in parameters:
        _hide(each, hidden=each.name not in COMMON)
    run.__signature__ = inspect.Signature([*parameters, _help_all()])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, HELP_ALL: _help_all().annotation}
    return run


def _hide(parameter: Parameter, *, hidden: bool) -> None:
    for info in getattr(parameter.annotation, "__metadata__", ()):
        if isinstance(info, OptionInfo):
            info.hidden = hidden


def _help_all() -> Parameter:
    info = typer.Option("--help-all", callback=_show_all, is_eager=True, help="Show every option and exit.")
    return Parameter(HELP_ALL, Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, info])


def _show_all(context: typer.Context, wanted: bool) -> None:
    if not wanted:
        return
    parameters: list[Any] = context.command.params
    for parameter in parameters:
        parameter.hidden = False
    typer.echo(context.get_help())
    raise typer.Exit
