"""One run of the command line: the options before the command, what is said on standard error, how to repeat it."""

from __future__ import annotations

import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import typer

from backscan.scanner.errors import ExitCode

# A report is the same on every executor, so what chose one is no part of the command that repeats it.
_WHERE = ("--executor", "--max-retries")


class Settings:
    """Options that stand before the command."""

    quiet = False
    verbose = False
    debug = False
    configured: Sequence[str] = ()
    """Options from a configuration file, as they would be written on the command line."""
    owns_process = False
    """Whether the process was started for this command, so that its time counts from the start of the process."""
    detected = False
    """Whether the command returned that a backdoor was detected."""


def fail(sentence: str, code: ExitCode, error: Exception | None = None) -> NoReturn:
    """End with a sentence; with `--debug` also the traceback."""
    if Settings.debug and error is not None:
        traceback.print_exception(error, file=sys.stderr)
    say(sentence)
    raise typer.Exit(int(code))


def say(sentence: str) -> None:
    """One line on standard error; names from files in it cannot steer the terminal."""
    from backscan.scanner.reports.text import printable

    typer.echo(f"scanner: {printable(sentence)}", err=True)


def progress(about: str = "") -> Any:
    """The observer of a scan on standard error, whose lines begin with what they are about."""
    from rich.console import Console

    from backscan.scanner.cli.progress_bar import ConsoleProgress

    return ConsoleProgress(Console(stderr=True), about=about, quiet=Settings.quiet, verbose=Settings.verbose)


def command() -> str:
    """The command that repeats this run from its beginning, wherever it was scanned and whether or not resumed."""
    given = [argument for argument in sys.argv[1:] if argument != "--resume"]
    return shlex.join(["scanner", *_without([*given, *Settings.configured], _WHERE)])


def _without(arguments: Sequence[str], options: Sequence[str]) -> list[str]:
    """Arguments without some options and the values that follow them."""
    kept, is_value = list[str](), False
    for each in arguments:
        if not is_value and each not in options and each.partition("=")[0] not in options:
            kept.append(each)
        is_value = each in options and not is_value
    return kept
