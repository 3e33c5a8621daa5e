"""The jit wrapper: where compiled code is kept, and that it is never stale."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backscan.kernels import _jit
from backscan.kernels._jit import FLOAT, VECTOR, jit

PROGRAM = """
from _jit import FLOAT, jit

@jit(FLOAT(FLOAT))
def double(x):
    return 2.0 * x

print(double(21.0), sum(double.stats.cache_hits.values()))
"""


@pytest.fixture
def folder(tmp_path):
    """A package folder with the wrapper and one kernel, and a home of its own."""
    package = tmp_path / "package"
    package.mkdir()
    shutil.copy(_jit.__file__, package / "_jit.py")
    (package / "program.py").write_text(PROGRAM)
    return package


def start(package: Path) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "PYTHON"))}
    environment |= {"HOME": str(package.parent / "home"), "XDG_CACHE_HOME": str(package.parent / "home" / "cache")}
    return subprocess.Popen(
        [sys.executable, "program.py"], cwd=package, env=environment, stdout=subprocess.PIPE, text=True
    )


def run(package: Path) -> str:
    process = start(package)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0
    return output.strip()


def test_second_process_loads_what_the_first_compiled(folder):
    assert run(folder) == "42.0 0"
    assert run(folder) == "42.0 1"
    assert list((folder / "__pycache__").glob("*.nbi"))


def test_read_only_package_uses_the_cache_of_the_user(folder):
    (folder / "__pycache__").write_text("not a folder, so nothing can be written there")
    assert run(folder) == "42.0 0"
    assert run(folder) == "42.0 1"
    assert list((folder.parent / "home").rglob("*.nbi"))


def test_without_any_cache_kernels_still_work(folder):
    (folder / "__pycache__").write_text("not a folder")
    (folder.parent / "home").write_text("not a folder")
    assert run(folder) == "42.0 0"
    assert run(folder) == "42.0 0"


def test_processes_may_compile_at_the_same_time(folder):
    processes = [start(folder) for _ in range(3)]
    outputs = [process.communicate(timeout=120)[0].split()[0] for process in processes]
    assert outputs == ["42.0"] * 3
    assert run(folder) == "42.0 1"


def test_code_compiled_before_a_source_changed_is_dropped(tmp_path):
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    for name, seconds in (("old.nbi", 1_000), ("new.nbi", 3_000)):
        (cache / name).touch()
        os.utime(cache / name, (seconds, seconds))
    for name, seconds in (("a.py", 500), ("b.py", 2_000)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (seconds, seconds))
    _jit._drop_stale_cache(tmp_path)
    assert [index.name for index in cache.iterdir()] == ["new.nbi"]


def test_read_only_arrays_are_accepted():
    @jit(FLOAT(VECTOR))
    def total(values):
        return values.sum()

    values = np.arange(4.0)
    assert total(values) == 6.0
    values.flags.writeable = False
    assert total(values) == 6.0
