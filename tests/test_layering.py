"""The direction of dependencies (docs/design.md): who may import whom, read from the source and tried in processes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "onnx", "onnxruntime", "onnx2torch", "numba"}

# Folder -> what its files must not import, at any depth of the file.
FORBIDDEN = {
    "kernels": {"torch", "onnx", "onnxruntime", "onnx2torch", "backscan.converters", "backscan.scanner"},
    "converters": {"backscan.scanner", "backscan.kernels", "numba"},
    "scanner/reports": {"backscan.converters", "backscan.kernels", *HEAVY},
}
# What reports may use of the scanner: the results, and each other.
REPORTS_MAY_USE = ("backscan.scanner.results", "backscan.scanner.errors", "backscan.scanner.reports")


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, also inside functions; names for type checkers do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for block in [node for node in ast.walk(tree) if isinstance(node, ast.If)]:
        if "TYPE_CHECKING" in ast.dump(block.test):
            block.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_no_import_against_the_direction(folder):
    files = python_files(folder)
    assert files
    for path in files:
        wrong = {m for m in imported(path) for package in FORBIDDEN[folder] if is_within(m, package)}
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_reports_see_results_only():
    for path in python_files("scanner/reports"):
        inside = {m for m in imported(path) if is_within(m, "backscan.scanner") and m != "backscan.scanner"}
        wrong = {m for m in inside if not m.startswith(REPORTS_MAY_USE)}
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


@pytest.mark.parametrize("folder", ["scanner", "kernels", "converters"])
def test_packages_are_imported_by_their_installed_name(folder):
    for path in python_files(folder):
        wrong = {
            m for m in imported(path) if m.split(".")[0] in ("scanner", "kernels", "converters", "tests", "benchmarks")
        }
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def loaded_after(statement: str) -> set[str]:
    """Heavy packages in a fresh interpreter after a statement."""
    code = f"{statement}\nimport sys\nprint(*(sys.modules.keys() & {HEAVY | {'scipy', 'matplotlib', 'jinja2'}!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_command_line_starts_light():
    assert loaded_after("import backscan.scanner.cli.app") == set()


def test_the_parent_of_a_scan_never_loads_torch():
    statement = (
        "import backscan.scanner.pipeline.scan, backscan.scanner.inference.variants, backscan.scanner.choices\n"
        "backscan.scanner.choices.check(backscan.scanner.config.ScanConfig())"
    )
    assert not loaded_after(statement) & {"torch", "onnxruntime", "onnx2torch"}
