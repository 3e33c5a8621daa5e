"""How long a user waits before anything happens: nothing heavy is imported for `--help`.

python -m pytest benchmarks/speed/test_startup.py
"""

import os
import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "onnx", "onnxruntime", "onnx2torch", "numba", "scipy", "matplotlib", "pydantic_core", "jinja2", "PIL")
MOST_SECONDS = 0.5


def processor_seconds(command: list[str]) -> float:
    """Processor time of a command, the best of seven: pages read anew and shared cores only add to it."""
    times = []
    for _ in range(7):
        before = os.times()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(times)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["check", "--help"]], ids=" ".join)
def test_help_is_quick(arguments: list[str]) -> None:
    """Help costs less than half a second of processor time."""
    assert processor_seconds([sys.executable, "-m", "backscan.scanner", *arguments]) < MOST_SECONDS


def test_import_loads_nothing_heavy() -> None:
    """`import backscan.scanner` and the command line's help load none of the numerical packages."""
    program = (
        "import sys, contextlib, io, time; started = time.process_time(); import backscan.scanner; "
        "from backscan.scanner.cli import main; sys.argv = ['scanner', '--help']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main()\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    started = time.monotonic()
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", f"loaded in {time.monotonic() - started:.1f} s"
