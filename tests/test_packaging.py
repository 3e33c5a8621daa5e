"""What gets installed: one prefix, every package, and nothing that is not meant for users."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("scanner", "kernels", "converters")


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory) -> list[str]:
    """Names in a wheel built from a copy of the tree, so that the build leaves nothing behind."""
    copy = tmp_path_factory.mktemp("tree")
    for folder in (*FOLDERS, "tests", "benchmarks"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", ".cache"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [wheel] = out.glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


def test_one_top_level_name(wheel_names):
    top = {name.split("/")[0] for name in wheel_names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"backscan"}


def test_the_prefix_is_a_namespace(wheel_names):
    assert "backscan/__init__.py" not in wheel_names


def test_every_package_folder_is_listed(project):
    listed = set(project["tool"]["setuptools"]["packages"])
    found = {
        "backscan." + ".".join(path.parent.relative_to(ROOT).parts)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert listed == found


def test_types_samples_and_templates_are_inside(wheel_names):
    for folder in FOLDERS:
        assert f"backscan/{folder}/py.typed" in wheel_names
    for sample in (ROOT / "scanner" / "samples").iterdir():
        assert f"backscan/scanner/samples/{sample.name}" in wheel_names
    for template in (ROOT / "scanner" / "reports" / "templates").glob("*"):
        assert f"backscan/scanner/reports/templates/{template.name}" in wheel_names


def test_tests_and_benchmarks_stay_out(wheel_names):
    assert not [name for name in wheel_names if "test" in name.split("/")[1] or "benchmark" in name]


def test_constraints_pin_every_dependency(project):
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *(entry for group in extras.values() for entry in group)]
    names = {"".join(c if c.isalnum() or c in "-_" else " " for c in entry).split()[0] for entry in wanted}
    assert names <= pinned
