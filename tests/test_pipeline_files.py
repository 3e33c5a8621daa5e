"""What other pipelines run: the GitHub action, the pre-commit hook and the recipes of the guide."""

import json
import os
import re
import subprocess
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
    """Exit code of the step, arguments of the scanner, and the step's outputs."""
    (step,) = [step for step in ACTION["runs"]["steps"] if step.get("id") == "scan"]
    defaults = {name.upper().replace("-", "_"): each.get("default", "") for name, each in ACTION["inputs"].items()}
    environment = {
        **os.environ,
        **{name: defaults.get(name, "") for name in step["env"]},
        "RUNNER_TEMP": str(folder.parent),
        "GITHUB_OUTPUT": str(folder.parent / "output"),
        "GITHUB_STEP_SUMMARY": str(folder.parent / "summary"),
        **inputs,
    }
    done = subprocess.run(
        ["bash", "-e", "-c", step["run"]], cwd=folder, env=environment, capture_output=True, text=True
    )
    arguments, output = folder.parent / "arguments", folder.parent / "output"
    given = arguments.read_text(encoding="utf-8") if arguments.exists() else ""
    return done.returncode, given.split("\n")[:-1], output.read_text(encoding="utf-8") if output.exists() else ""


def test_the_action_scans_what_the_change_touches(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD~1")
    code, arguments, output = run_scan(repository, BASE=base, DATA="my images", WANTED="1")
    assert code == 0  # the last step fails the job, after the reports are kept
    assert output == "exit-code=1\n"
    assert "\n".join(arguments[arguments.index("--") + 1 :]) == "$(touch pwned) a\nb.onnx\nchanged.onnx"
    assert arguments[arguments.index("--data") + 1] == "my images"
    assert not (repository / "pwned").exists()
    assert (repository.parent / "summary").read_text(encoding="utf-8") == "# summary\n"


def test_without_a_base_all_models_are_scanned(repository: Path) -> None:
    _, arguments, _ = run_scan(repository, BASE="0" * 40)
    assert {"old.onnx", "changed.onnx"} <= set(arguments)


def test_named_models_and_options_are_taken(repository: Path) -> None:
    _, arguments, _ = run_scan(repository, MODELS="a b.onnx\n\nmodels/\n", OPTIONS="--seed 1", BASELINE="known.json")
    assert arguments[arguments.index("--") + 1 :] == ["a b.onnx", "models/"]
    assert arguments[arguments.index("--seed") + 1] == "1"
    assert arguments[arguments.index("--baseline") + 1] == "known.json"


def test_nothing_to_scan_is_no_failure(repository: Path) -> None:
    code, arguments, output = run_scan(repository, BASE=git(repository, "rev-parse", "HEAD"))
    assert (code, arguments, output) == (0, [], "")
