"""What gets installed: one prefix, every package, and nothing that is not meant for users."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def pins() -> dict[str, Requirement]:
    """The constraints that hold here, by name."""
    lines = (line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#"))
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(each.name): each for each in found if each.marker is None or each.marker.evaluate()}


def wanted_by(project: dict) -> list[Requirement]:
    """What the project asks for, with all extras."""
    extras = project["project"]["optional-dependencies"]
    return [Requirement(each) for each in (*project["project"]["dependencies"], *itertools.chain(*extras.values()))]


def test_constraints_and_project_agree(project):
    pinned = pins()
    for wanted in wanted_by(project):
        [pin] = pinned[canonicalize_name(wanted.name)].specifier
        assert pin.operator == "=="
        assert wanted.specifier.contains(pin.version), f"{wanted} is not {pin}"


def test_constraints_are_a_lock(project):
    """Whatever is installed with a dependency is pinned as well, but for CUDA, whose versions torch names."""
    pinned, todo, seen = pins(), [(each.name, each.extras) for each in wanted_by(project)], set()
    while todo:
        name, extras = todo.pop()
        if (canonicalize_name(name), frozenset(extras)) in seen or name.startswith(("nvidia-", "cuda-", "triton")):
            continue
        seen.add((canonicalize_name(name), frozenset(extras)))
        assert canonicalize_name(name) in pinned, f"{name} is not in constraints.txt; its head says how to make it anew"
        with contextlib.suppress(metadata.PackageNotFoundError):  # of an extra that is not installed here
            needs = [Requirement(each) for each in metadata.requires(name) or ()]
            environments = [{"extra": each} for each in (*extras, "")]
            chosen = [each for each in needs if not each.marker or any(map(each.marker.evaluate, environments))]
            todo += [(each.name, each.extras) for each in chosen]
    assert len(seen) > len(wanted_by(project))


def test_the_readme_line_for_cpus_brings_less_than_it_says(project):
    """What `.[cpu]` and all that it needs take on the disk here; CI installs into a fresh environment."""
    if any((each.name or "").startswith("nvidia-") for each in metadata.distributions()):
        pytest.skip("the build of torch for GPUs is installed here")
    extras = project["project"]["optional-dependencies"]
    todo, seen, size = [Requirement(each) for each in (*project["project"]["dependencies"], *extras["cpu"])], set(), 0
    while todo:
        wanted = todo.pop()
        if canonicalize_name(wanted.name) in seen or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        seen.add(canonicalize_name(wanted.name))
        size += sum(each.size or 0 for each in metadata.files(wanted.name) or ())
        todo += [Requirement(each) for each in metadata.requires(wanted.name) or ()]
    assert 300 << 20 < size < 2_500_000_000


def test_uv_refuses_both_builds_of_onnxruntime_together(project):
    assert project["tool"]["uv"]["conflicts"] == [[{"extra": "cpu"}, {"extra": "gpu"}]]


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
    assert lines.index("USER 1000") < lines.index('ENTRYPOINT ["scanner"]')
    assert any("Not built" in line for line in lines)


def test_the_readme_has_one_line_for_each_build():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line for line in text.splitlines() if line.startswith("pip install")]
    assert [command.count("[cpu]") for command in commands] == [1, 0]
    assert [command.count("[gpu]") for command in commands] == [0, 1]
    assert all("--constraint constraints.txt" in command for command in commands)
