"""The commit that a table names is the one whose code made it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from benchmarks.provenance import commit

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(*arguments):
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def head(tmp_path, monkeypatch):
    """The commit of a new repository, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    for path in (results / "table.md", tmp_path / "code.py"):
        path.write_text("before")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    return git("rev-parse", "--short", "HEAD")


def test_new_results_do_not_mark_the_commit_and_changed_code_does(head, tmp_path):
    (tmp_path / "benchmarks" / "results" / "table.md").write_text("after")
    assert commit() == head
    (tmp_path / "code.py").write_text("after")
    assert commit() == f"{head}-dirty"


def test_without_a_repository_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert commit() == "unknown"
