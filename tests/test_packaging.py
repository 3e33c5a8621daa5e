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


def test_the_image_has_what_it_is_made_of_and_no_rights():
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert all((ROOT / each).exists() for each in copied)
    folders = {
        str(each)
        for each in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"].values()
    }
    assert folders <= set(copied)
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == set(copied)
    assert any("--constraint constraints.txt" in line and "[cpu]" in line for line in lines)
    assert lines.index("USER scanner") < lines.index('ENTRYPOINT ["scanner"]')
    assert any("Not built" in line for line in lines)


def test_the_readme_has_one_line_for_each_build():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line for line in text.splitlines() if line.startswith("pip install")]
    assert [command.count("[cpu]") for command in commands] == [1, 0]
    assert [command.count("[gpu]") for command in commands] == [0, 1]
    assert all("--constraint constraints.txt" in command for command in commands)
