"""What other pipelines run: the GitHub action, the pre-commit hook and the recipes of the guide."""

import json
import os
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
# Stands for the scanner: writes down its arguments, and the report that the summary shows.
SCANNER = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$RUNNER_TEMP/arguments"
echo "# summary" > backscan-reports/backscan.md
exit "${WANTED:-0}"
"""


def schema(name: str) -> dict[str, Any]:
    text = (resources.files("check_jsonschema.builtin_schemas.vendor") / f"{name}.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def recipe(title: str) -> dict[str, Any]:
    page = (ROOT / "docs" / "pipeline.md").read_text(encoding="utf-8")
    found = re.search(rf"## {title}\n.*?```yaml\n(.*?)```", page, re.DOTALL)
    assert found
    loaded: dict[str, Any] = yaml.safe_load(found.group(1))
    return loaded


def test_the_action_is_valid() -> None:
    jsonschema.validate(ACTION, schema("github-actions"))


def test_the_gitlab_recipe_is_valid() -> None:
    jsonschema.Draft7Validator(schema("gitlab-ci")).validate(recipe("GitLab"))
    job = recipe("GitLab")["backscan"]
    assert job["artifacts"]["reports"]["junit"] == "scan.junit.xml"
    assert all("--report scan.junit.xml" in line for line in job["script"] if line.startswith("scanner"))


def test_the_hook_is_whole_and_the_recipe_uses_it() -> None:
    (hook,) = HOOKS
    assert {"id", "name", "entry", "language", "files"} <= hook.keys()
    assert re.search(hook["files"], "models/a.onnx")
    assert not re.search(hook["files"], "a.onnx.data")
    assert recipe("pre-commit")["repos"][0]["hooks"][0]["id"] == hook["id"]


def test_inputs_never_become_commands() -> None:
    scripts = [step["run"] for step in ACTION["runs"]["steps"] if "run" in step]
    assert scripts
    assert all("${{" not in script for script in scripts)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose last change touches two models, one of a difficult name, and removes a third."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    for name in ("old.onnx", "gone.onnx", "changed.onnx"):
        (folder / name).write_text(name, encoding="utf-8")
    commit(folder)
    (folder / "gone.onnx").unlink()
    (folder / "changed.onnx").write_text("new", encoding="utf-8")
    (folder / "$(touch pwned) a\nb.onnx").write_text("new", encoding="utf-8")
    (folder / "notes.txt").write_text("new", encoding="utf-8")
    commit(folder)
    stand_in = tmp_path / "backscan" / "bin" / "scanner"
    stand_in.parent.mkdir(parents=True)
    stand_in.write_text(SCANNER, encoding="utf-8")
    stand_in.chmod(0o755)
    return folder


def git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "change")


def run_scan(folder: Path, **inputs: str) -> tuple[int, list[str], str]:
    """Exit code that the job ends with, arguments of the scanner, and what the step says."""
    defaults = {name.upper().replace("-", "_"): each.get("default", "") for name, each in ACTION["inputs"].items()}
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        **{name: defaults.get(name, "") for name in step("Scan")["env"]},
        "ACTION_PATH": str(ROOT),
        "RUNNER_TEMP": str(folder.parent),
        "GITHUB_OUTPUT": str(folder.parent / "output"),
        "GITHUB_STEP_SUMMARY": str(folder.parent / "summary"),
        **inputs,
    }
    done = subprocess.run(
        ["bash", "-e", "-c", step("Scan")["run"]], cwd=folder, env=environment, capture_output=True, text=True
    )
    arguments, output = folder.parent / "arguments", folder.parent / "output"
    given = arguments.read_text(encoding="utf-8") if arguments.exists() else ""
    lines = output.read_text(encoding="utf-8").split() if output.exists() else []
    (code,) = [line.removeprefix("exit-code=") for line in lines if line.startswith("exit-code=")] or [""]
    ended = subprocess.run(["bash", "-c", step("Pass or fail")["run"]], env={**os.environ, "CODE": code}, check=False)
    return ended.returncode, given.split("\n")[:-1], done.stdout


def step(name: str) -> dict[str, Any]:
    """A step of the action."""
    (found,) = [each for each in ACTION["runs"]["steps"] if each.get("name") == name]
    return dict(found)


def test_the_action_scans_what_the_change_touches(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD~1")
    code, arguments, _ = run_scan(repository, BASE=base, DATA="my images", WANTED="1")
    assert code == 1
    assert "\n".join(arguments[arguments.index("--") + 1 :]) == "$(touch pwned) a\nb.onnx\nchanged.onnx"
    assert "--data=my images" in arguments
    assert not (repository / "pwned").exists()
    assert (repository.parent / "summary").read_text(encoding="utf-8") == "# summary\n"
    assert (repository.parent / "output").read_text(encoding="utf-8") == "reports=true\nexit-code=1\n"


@pytest.mark.parametrize("base", ["0" * 40, "1" * 40, ""], ids=["new branch", "shallow clone", "no event"])
def test_without_a_base_all_models_are_scanned(repository: Path, base: str) -> None:
    _, arguments, _ = run_scan(repository, BASE=base)
    assert {"old.onnx", "changed.onnx"} <= set(arguments)


def test_a_shallow_clone_scans_all_models(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD~1")
    shallow = repository.parent / "shallow"
    git(repository.parent, "clone", "--quiet", "--depth", "1", repository.as_uri(), str(shallow))
    _, arguments, said = run_scan(shallow, BASE=base)
    assert {"old.onnx", "changed.onnx"} <= set(arguments)
    assert "is not here" in said


def test_a_renamed_model_is_scanned_under_its_new_name(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD")
    git(repository, "mv", "old.onnx", "renamed.onnx")
    commit(repository)
    _, arguments, _ = run_scan(repository, BASE=base)
    assert arguments[arguments.index("--") + 1 :] == ["renamed.onnx"]


def test_named_models_and_options_are_taken(repository: Path) -> None:
    inputs = {"MODELS": "a b.onnx\n\nmodels/\n", "OPTIONS": "--class-names 'my names.txt'", "BASELINE": "known.json"}
    _, arguments, _ = run_scan(repository, **inputs)
    assert arguments[arguments.index("--") + 1 :] == ["a b.onnx", "models/"]
    assert arguments[arguments.index("--class-names") + 1] == "my names.txt"
    assert "--baseline=known.json" in arguments


def test_no_model_changed_is_no_failure_and_says_so(repository: Path) -> None:
    code, arguments, said = run_scan(repository, BASE=git(repository, "rev-parse", "HEAD"))
    assert (code, arguments) == (0, [])
    assert "0 models to scan" in said


def test_only_a_deleted_model_is_nothing_to_scan(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD")
    git(repository, "rm", "--quiet", "old.onnx")
    commit(repository)
    code, arguments, _ = run_scan(repository, BASE=base)
    assert (code, arguments) == (0, [])


def test_outside_a_checkout_it_fails(repository: Path) -> None:
    outside = repository.parent / "outside"
    outside.mkdir()
    code, arguments, said = run_scan(outside, BASE="")
    assert (code, arguments) == (2, [])
    assert said.startswith("::error::expected a git checkout that this user may read, found: ")


def test_a_checkout_that_git_does_not_trust_fails(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD~1")
    code, arguments, said = run_scan(repository, BASE=base, GIT_TEST_ASSUME_DIFFERENT_OWNER="1")
    assert (code, arguments) == (2, [])
    assert "dubious ownership" in said
    assert "safe.directory" in said


def test_without_git_it_fails(repository: Path) -> None:
    tools = repository.parent / "tools"
    tools.mkdir()
    (tools / "python").symlink_to(sys.executable)
    (tools / "bash").symlink_to("/bin/bash")
    code, arguments, said = run_scan(repository, BASE="", PATH=str(tools))
    assert (code, arguments) == (2, [])
    assert said.startswith("::error::expected git, found none")


def test_a_scan_that_does_not_end_fails_the_job() -> None:
    """An install or a runner that broke leaves no exit code."""
    ended = subprocess.run(
        ["bash", "-c", step("Pass or fail")["run"]], env={**os.environ, "CODE": ""}, capture_output=True, check=False
    )
    assert ended.returncode == 70


def test_reports_are_kept_before_and_whatever_code_scanning_says() -> None:
    names = [each.get("name") for each in ACTION["runs"]["steps"]]
    assert names[-3:] == ["Keep the reports", "Send findings to code scanning", "Pass or fail"]
    assert step("Send findings to code scanning")["continue-on-error"] is True
    assert all(step(name)["if"].startswith("always()") for name in names[-3:])
