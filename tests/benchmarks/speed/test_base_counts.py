"""Counts of two commits: what is laid out runs, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.speed.base_counts import count, differences, refused, sources

BASE = {"verdict": "not_detected", "steps of features": 900, "steps of pairwise": 1000}


@pytest.mark.parametrize(
    ("changes", "lines", "names"),
    [
        ({}, [], []),
        ({"steps of pairwise": 1001}, ["steps of pairwise: 1000 -> 1001"], []),
        ({"steps of pairwise": 700}, ["steps of pairwise: 1000 -> 700"], []),
        ({"steps of pairwise": 1101}, ["steps of pairwise: 1000 -> 1101"], ["steps of pairwise"]),
        ({"verdict": "inconclusive"}, ["verdict: not_detected -> inconclusive"], ["verdict"]),
        ({"steps of masks": 5}, ["steps of masks: none -> 5"], []),
    ],
)
def test_differences_are_exact_and_large_ones_refused(changes, lines, names):
    head = BASE | changes
    assert differences(BASE, head) == lines
    assert refused(BASE, head) == names


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A commit whose scanner does nothing but end with exit code 5."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for package in ("scanner", "kernels", "converters"):
        (tmp_path / "work" / package).mkdir(parents=True)
        (tmp_path / "work" / package / "__init__.py").write_text("")
    (tmp_path / "work" / "scanner" / "__main__.py").write_text("raise SystemExit(5)\n")
    monkeypatch.chdir(tmp_path / "work")
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "--message", "base"]):
        subprocess.run(["git", *command], check=True)
    return tmp_path


def test_the_sources_of_the_commit_are_what_runs(repository):
    sources("HEAD", repository / "base")
    with pytest.raises(RuntimeError, match="exit code 5"):
        count(Path("model.onnx"), Path("data.npz"), repository / "base")


def test_a_commit_that_is_not_there_is_said(repository):
    with pytest.raises(LookupError, match="nowhere"):
        sources("nowhere", repository / "base")
