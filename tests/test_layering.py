"""What is loaded when: import contracts (pyproject.toml, `lint-imports`) say who may import whom, processes show it."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"torch", "onnx", "onnxruntime", "onnx2torch", "numba"}


def loaded_after(statement: str) -> set[str]:
    """Heavy packages in a fresh interpreter after a statement."""
    code = f"{statement}\nimport sys\nprint(*(sys.modules.keys() & {HEAVY | {'scipy', 'matplotlib', 'jinja2'}!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_command_line_starts_light():
    assert loaded_after("import backscan.scanner.cli.app") == set()


def test_the_parent_of_a_scan_never_loads_torch():
    statement = (
        "import backscan.scanner.pipeline.scan, backscan.scanner.inference.variants\n"
        "backscan.scanner.config.ScanConfig().check()"
    )
    assert not loaded_after(statement) & {"torch", "onnxruntime", "onnx2torch"}
