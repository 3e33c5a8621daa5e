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
# Stands for the scanner: writes down its arguments, and the reports that are asked for.
SCANNER = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$RUNNER_TEMP/arguments"
for each in "$@"; do
  case "$each" in --report=*) echo "# summary" > "${each#--report=}" ;; esac
done
exit "${WANTED:-0}"
"""
# Stands for Python where the action installs: an environment whose Python writes down what pip is told.
PYTHON = """#!/usr/bin/env bash
if [ "$1 $2" != "-m venv" ]; then exec REAL "$@"; fi
mkdir -p "$3/bin"
echo '#!/usr/bin/env bash
printf "%s\\n" "$PIP_EXTRA_INDEX_URL" "$@" > "$RUNNER_TEMP/installed"; exit "${BROKEN:-0}"' > "$3/bin/python"
chmod +x "$3/bin/python"
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
    assert all(re.search(hook["files"], name) for name in ("models/a.onnx", "A.ONNX", "a.onnx.data", "a.onnx_data"))
    assert not re.search(hook["files"], "a.onnx.txt")
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
    code = ([line.removeprefix("exit-code=") for line in lines if line.startswith("exit-code=")] or [""])[-1]
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
    assert (repository.parent / "output").read_text(encoding="utf-8") == ("reports=true\nsarif=true\nexit-code=1\n")


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


def beside(folder: Path, *, model: bytes, weights: str = "w.bin") -> str:
    """Commit a model, then other weights beside it and another text; the commit between."""
    (folder / "sub").mkdir()
    (folder / "sub" / "net.onnx").write_bytes(model)
    (folder / "sub" / weights).write_bytes(b"before")
    commit(folder)
    base = git(folder, "rev-parse", "HEAD")
    (folder / "sub" / weights).write_bytes(b"after")
    (folder / "notes.txt").write_text("another", encoding="utf-8")
    commit(folder)
    return base


@pytest.mark.parametrize(
    ("model", "weights"),
    [(b"\x08\x08 location w.bin", "w.bin"), (b"version https://git-lfs.github.com/spec/v1\n", "net.onnx.data")],
    ids=["named in the model", "beside a pointer of Git LFS"],
)
def test_other_weights_beside_a_model_are_another_model(repository: Path, model: bytes, weights: str) -> None:
    code, arguments, said = run_scan(repository, BASE=beside(repository, model=model, weights=weights), WANTED="1")
    assert (code, arguments[arguments.index("--") + 1 :]) == (1, ["sub/net.onnx"])
    assert "1 models to scan, 1 of them as weights beside them changed" in said


def test_a_file_that_no_model_names_is_none_of_its_weights(repository: Path) -> None:
    code, arguments, said = run_scan(repository, BASE=beside(repository, model=b"whole"))
    assert (code, arguments) == (0, [])
    assert "::notice::backscan scanned no model" in said


def test_where_git_keeps_no_model_it_fails_unless_told(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD")
    git(repository, "rm", "--quiet", "*.onnx")
    commit(repository)
    assert run_scan(repository, BASE=base)[:2] == (0, []), "the change removed the last ones"
    for known in (git(repository, "rev-parse", "HEAD"), ""):
        code, arguments, said = run_scan(repository, BASE=known)
        assert (code, arguments) == (2, [])
        assert "::error::expected .onnx files that git keeps, found none" in said
    assert run_scan(repository, WITHOUT_MODELS="pass")[:2] == (0, [])


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


class Runner:
    """Takes the steps of the action as a runner does, with stand-ins for the actions of others."""

    def __init__(self, folder: Path, base: str, **inputs: str) -> None:
        self.folder, self.temp = folder, folder.parent
        self.inputs = {name: each.get("default", "") for name, each in ACTION["inputs"].items()} | inputs
        self.known = {"github.action_path": str(ROOT), "runner.temp": str(self.temp), "runner.os": "Linux"}
        self.known |= {"github.event.before": base} | {f"inputs.{name}": each for name, each in self.inputs.items()}
        self.kept: list[str] = []
        self.ran: list[str] = []
        tools = self.temp / "runner-tools"
        tools.mkdir()
        (tools / "python").write_text(PYTHON.replace("REAL", sys.executable), encoding="utf-8")
        (tools / "python").chmod(0o755)
        self.path = f"{tools}{os.pathsep}{os.environ['PATH']}"

    def filled(self, text: str) -> str:
        """A text with its `${{ }}` in place."""
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: self.value(found[1]), text)

    def value(self, expression: str) -> str:
        """The first of the names that has a value."""
        return next(filter(None, (self.known.get(name, "") for name in expression.split(" || "))), "")

    def holds(self, condition: str, *, failed: bool) -> bool:
        """Whether a step runs: not after a failure, unless it says always."""
        terms = condition.split(" && ") if condition else []
        compared = [re.fullmatch(r"(\S+) ([!=])= '(.*)'", each) for each in terms if each != "always()"]
        said = [each and (self.value(each[1]) == each[3]) == (each[2] == "=") for each in compared]
        return all(said) and (not failed or "always()" in terms)

    def job(self, *, upload_fails: bool = False, **environment: str) -> int:
        """All steps; the exit code of the first that failed."""
        code = 0
        for each in ACTION["runs"]["steps"]:
            if self.holds(each.get("if", ""), failed=bool(code)):
                self.ran.append(each.get("name") or each["uses"])
                ended = self.run(each, environment) if "run" in each else self.use(each, upload_fails=upload_fails)
                code = code or (0 if each.get("continue-on-error") else ended)
        return code

    def run(self, each: dict[str, Any], environment: dict[str, str]) -> int:
        """A step that is a script; what it tells later ones is known then."""
        output = self.temp / f"output-{len(self.ran)}"
        own = {name: self.filled(text) for name, text in each.get("env", {}).items()}
        files = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(self.temp / "summary")}
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(("GIT_", "PIP_"))}
        given = {**inherited, "PATH": self.path, "RUNNER_TEMP": str(self.temp), **files, **environment, **own}
        ended = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", each["run"]], cwd=self.folder, env=given, check=False
        )
        told = output.read_text(encoding="utf-8").splitlines() if output.exists() else []
        pairs = [line.partition("=") for line in told]
        self.known |= {f"steps.{each.get('id')}.outputs.{name}": text for name, _, text in pairs}
        return ended.returncode

    def use(self, each: dict[str, Any], *, upload_fails: bool) -> int:
        """A step that is an action of others: it keeps what it is given, or fails."""
        if "upload-artifact" in each["uses"]:
            self.kept += sorted(path.name for path in (self.folder / self.filled(each["with"]["path"])).iterdir())
        return int(upload_fails and "upload-sarif" in each["uses"])


@pytest.fixture
def base(repository: Path) -> str:
    return git(repository, "rev-parse", "HEAD~1")


@pytest.mark.parametrize("verdict", [0, 4])
def test_a_fork_whose_upload_fails_keeps_its_reports_and_its_verdict(repository: Path, base: str, verdict: int) -> None:
    """Forks and private repositories may not write to code scanning; the clone stands for the fork."""
    fork = repository.parent / "fork"
    git(repository.parent, "clone", "--quiet", repository.as_uri(), str(fork))
    runner = Runner(fork, base)
    assert runner.job(upload_fails=True, WANTED=str(verdict)) == verdict
    assert {"backscan.html", "backscan.json", "backscan.sarif"} <= set(runner.kept)
    assert runner.ran[-3:] == ["Keep the reports", "Send findings to code scanning", "Pass or fail"]
    assert "changed.onnx" in (repository.parent / "arguments").read_text(encoding="utf-8")


def test_what_is_installed_is_pinned_and_of_the_cpu(repository: Path, base: str) -> None:
    assert Runner(repository, base).job() == 0
    index, *told = (repository.parent / "installed").read_text(encoding="utf-8").splitlines()
    assert index.endswith("/cpu")
    assert told[told.index("--constraint") + 1 :] == [f"{ROOT}/constraints.txt", f"{ROOT}[cpu]"]


def test_an_install_that_fails_fails_the_job(repository: Path, base: str) -> None:
    runner = Runner(repository, base)
    assert runner.job(BROKEN="1") == 1
    assert "Scan" not in runner.ran
    assert not runner.kept


def test_a_change_without_a_model_passes_and_says_so_in_the_summary(repository: Path) -> None:
    runner = Runner(repository, git(repository, "rev-parse", "HEAD"))
    assert runner.job() == 0
    assert "scanned no model" in (repository.parent / "summary").read_text(encoding="utf-8")
