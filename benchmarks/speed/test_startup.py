"""How long a user waits before anything happens: help imports what typer needs and little more.

What is imported is counted exactly; time is held against typer's own in the same run, with room for a busy machine.

python -m pytest benchmarks/speed/test_startup.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "onnx", "onnxruntime", "onnx2torch", "numba", "scipy", "matplotlib", "pydantic_core", "jinja2", "PIL")
MOST_MODULES = 40
MOST_SECONDS = 0.5
MOST_OVER_TYPER = 1.6
TYPER_HELP = """
import sys
import typer

options = ", ".join(
    f"option_{i}: str = typer.Option('', help='A help text of a length that is usual here.', rich_help_panel='{i % 5}')"
    for i in range(50)
)
exec(f"def check({options}): pass")
app = typer.Typer()
app.command()(check)
app.command()(lambda: None)
sys.argv = ["reference", "check", "--help"]
app()
"""
"""A program that has as many options as `check` and does nothing: what typer itself costs on this machine."""
OUR_HELP = """
import sys
from backscan.scanner.cli.app import main

sys.argv = ["scanner", "check", "--help"]
main()
"""
LOADED = "import atexit, sys\natexit.register(lambda: print(*sorted(sys.modules), file=sys.stderr))\n"
"""Begins a program that names on its standard error, when it ends, all modules that it imported."""


def modules(program: str) -> set[str]:
    """What a program has imported when it ends."""
    answer = subprocess.run([sys.executable, "-c", LOADED + program], check=True, capture_output=True, text=True)
    return set(answer.stderr.split())


def processor_seconds(*commands: list[str]) -> list[float]:
    """Processor time of each command, the best of seven turns: pages read anew and shared cores only add to it."""
    turns = []
    for _ in range(7):
        turns.append([])
        for command in commands:
            before = os.times()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            after = os.times()
            turns[-1].append(
                after.children_user + after.children_system - before.children_user - before.children_system
            )
    return [min(times) for times in zip(*turns, strict=True)]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["check", "--help"]], ids=" ".join)
def test_help_is_quick(arguments: list[str]) -> None:
    """Help costs less than half a second of processor time; on slower machines not much more than typer's own work."""
    ours, typer = processor_seconds(
        [sys.executable, "-m", "backscan.scanner", *arguments], [sys.executable, "-c", TYPER_HELP]
    )
    assert ours < max(MOST_SECONDS, MOST_OVER_TYPER * typer), f"typer alone takes {typer:.2f} s"


def test_help_imports_little_beside_typer() -> None:
    """What `check --help` imports beyond typer itself is our command line and a few small modules."""
    beyond = modules(OUR_HELP) - modules(TYPER_HELP)
    assert len(beyond) <= MOST_MODULES, ", ".join(sorted(beyond))


def test_import_loads_nothing_heavy() -> None:
    """`import backscan.scanner` and the command line's help load none of the numerical packages."""
    program = (
        "import sys, contextlib, io, time; started = time.process_time(); import backscan.scanner; "
        "from backscan.scanner.cli.app import main; sys.argv = ['scanner', '--help']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main()\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    started = time.monotonic()
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", f"loaded in {time.monotonic() - started:.1f} s"
