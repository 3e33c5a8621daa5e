"""Options of `check` and `render` around a scan that is already made: files, baselines, several models."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from backscan.scanner.cli import app
from backscan.scanner.fleet import one_model
from backscan.scanner.reports import render
from backscan.scanner.results import ScanResult
from tests.scanner.reports.examples import detected, inconclusive, no_verdict, not_detected

RESULTS = {"bad": detected, "good": not_detected, "odd": inconclusive, "shut": no_verdict}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`scanner` in a folder with four models, whose names tell what their scan gives."""
    (tmp_path / "models").mkdir()
    for name in RESULTS:
        (tmp_path / "models" / f"{name}.onnx").write_bytes(name.encode())

    def scan(path: Path, *_: object, **__: object) -> ScanResult:
        result = RESULTS[path.stem]()
        return replace(result, model=replace(result.model, name=path.name))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(one_model, "scan_one", scan)
    return lambda *arguments: CliRunner().invoke(app.app, [str(each) for each in arguments])


def test_one_model_is_one_report(run: Callable[..., Result], tmp_path: Path) -> None:
    done = run("check", "models/bad.onnx", "--report", "out.json", "--report", "out.html")
    assert done.exit_code == 1
    assert json.loads((tmp_path / "out.json").read_text())["verdict"] == "backdoor_detected"
    assert (tmp_path / "out.html").read_text().startswith("<!doctype html>")
    assert "BACKDOOR DETECTED" in done.stdout


def test_a_folder_is_all_its_models_and_one_exit_code(run: Callable[..., Result], tmp_path: Path) -> None:
    done = run("check", "models", "--report", "all.json")
    assert done.exit_code == 1
    reports = json.loads((tmp_path / "all.json").read_text())["reports"]
    assert [each["model"]["name"] for each in reports] == [f"models/{name}.onnx" for name in sorted(RESULTS)]
    assert run("check", "models/good.onnx", "models/odd.onnx", "models/shut.onnx").exit_code == 3


def test_a_baseline_accepts_what_it_knows_in_that_file_only(run: Callable[..., Result], tmp_path: Path) -> None:
    assert run("check", "models/bad.onnx", "--report", "known.json").exit_code == 1
    again = run("check", "models/bad.onnx", "--baseline", "known.json")
    assert again.exit_code == 0
    assert "the baseline knows every finding" in again.stderr
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "bad.onnx").write_bytes(b"bad")
    assert run("check", "other/bad.onnx", "--baseline", "known.json").exit_code == 1


def test_fail_on_lets_pass_and_says_so(run: Callable[..., Result]) -> None:
    assert run("check", "models/odd.onnx").exit_code == 4
    done = run("check", "models/odd.onnx", "--fail-on", "detected")
    assert done.exit_code == 0
    assert "warning: models/odd.onnx: inconclusive does not fail because of --fail-on detected" in done.stderr
    assert run("check", "models/odd.onnx", "--fail-on", "never").exit_code == 2


def test_the_pattern_is_saved(run: Callable[..., Result], tmp_path: Path) -> None:
    assert run("check", "models/bad.onnx", "--save-pattern", "p.npy").exit_code == 1
    assert (tmp_path / "p.npy").exists()
    assert "no pattern was recovered" in run("check", "models/good.onnx", "--save-pattern", "q.npy").stderr


def test_a_configuration_file_sets_defaults_and_the_command_line_wins(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "own.toml").write_text('fail-on = "detected"\nreport = ["from-file.md"]', encoding="utf-8")
    done = run("check", "models/odd.onnx", "--config", "own.toml")
    assert done.exit_code == 0
    assert (tmp_path / "from-file.md").exists()
    assert "options from own.toml" in done.stderr
    assert run("check", "models/odd.onnx", "--config", "own.toml", "--fail-on", "any").exit_code == 4
    assert run("check", "models/odd.onnx").exit_code == 4


def test_a_configuration_file_that_was_found_says_so_and_writes_reports(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "backscan.toml").write_text('format = "json"\nreport = "found.md"', encoding="utf-8")
    done = run("check", "models/bad.onnx")
    assert done.exit_code == 1
    assert (tmp_path / "found.md").exists()
    assert "backscan.toml" in done.stderr
    assert json.loads(done.stdout)["verdict"] == "backdoor_detected"
    (tmp_path / "own.toml").write_text("", encoding="utf-8")
    assert "backscan.toml" not in run("check", "models/bad.onnx", "--config", "own.toml").stderr


HARMLESS = (
    "data labels class-names images-per-class preprocess mean std range channel-order image-size device threads "
    "no-images format report"
)


@pytest.mark.parametrize(
    "key", sorted(p.opts[0][2:] for p in typer.main.get_command(app.app).commands["check"].params if "--" in p.opts[0])
)
def test_what_a_file_that_was_found_may_not_set(run: Callable[..., Result], tmp_path: Path, key: str) -> None:
    (tmp_path / "backscan.toml").write_text(f'{key} = "1"', encoding="utf-8")
    done = run("check", "models/bad.onnx")
    if key not in HARMLESS.split():
        assert done.exit_code == 2
        assert f"expected {key} on the command line" in done.stderr or key in ("config", "help", "help-all")
    else:
        assert "on the command line" not in done.stderr


@pytest.mark.parametrize("line", ['fail-on = "detected"', 'baseline = "known.json"', "no-sandbox = true"])
def test_a_model_s_folder_cannot_accept_its_own_backdoor(run: Callable[..., Result], tmp_path: Path, line: str) -> None:
    (tmp_path / "known.json").write_text(render(detected(3), "json"), encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(f"[tool.backscan]\n{line}", encoding="utf-8")
    done = run("check", "models/bad.onnx")
    assert done.exit_code == 2
    assert "--config pyproject.toml" in done.stderr
    assert not (tmp_path / "out.json").exists()


def test_a_wrong_configuration_file_is_the_user_s_mistake(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "backscan.toml").write_text("fail_on = 3", encoding="utf-8")
    done = run("check", "models/good.onnx")
    assert done.exit_code == 2
    assert "did you mean fail-on?" in done.stderr
    assert run("schema").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "models/good.onnx", "--report", "x.pdf"],
        ["check", "models/good.onnx", "--format", "html"],
        ["check", "models/good.onnx", "--baseline", "none.json"],
        ["check", "models/none.onnx"],
        ["render", "none.json"],
        ["render", "known.json", "--format", "pdf"],
    ],
)
def test_a_mistake_is_one_sentence(run: Callable[..., Result], tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "known.json").write_text(render(detected(3), "json"), encoding="utf-8")
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("scanner: expected")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("format_", ["terminal", "html", "markdown", "sarif", "junit", "bom", "attestation", "json"])
def test_render_writes_any_format(run: Callable[..., Result], tmp_path: Path, format_: str) -> None:
    (tmp_path / "known.json").write_text(render(detected(3), "json"), encoding="utf-8")
    done = run("render", "known.json", "--format", format_)
    assert done.exit_code == 0
    assert done.stdout == render(detected(3), format_, width=80)
