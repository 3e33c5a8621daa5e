"""The command line as users and pipelines meet it: every exit code, what goes where, and that nothing is lost."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from typer.testing import CliRunner, Result

from backscan.converters.sandbox.clock import process_began
from backscan.scanner.cli import app, several_models
from backscan.scanner.cli.console import Settings
from backscan.scanner.cli.demo import Demonstration
from backscan.scanner.config import OPTIONS
from backscan.scanner.errors import NoVerdictError, UserError
from backscan.scanner.fleet import one_model
from backscan.scanner.pipeline import conclusion, targets
from backscan.scanner.pipeline import scan as pipeline
from backscan.scanner.pipeline.ends import Interrupted
from backscan.scanner.process.parent import ModelProcess, OpenedModel, PreparedSearch, SettledModel
from backscan.scanner.results import ScanResult
from backscan.scanner.search import screening
from tests.scanner.pipeline.scans import SOURCE, TARGET, write_images, write_model
from tests.scanner.reports import examples

# Little work: pixels as they are, in this process, few draws.
QUICK = ("--preprocess", "none", "--no-sandbox", "--threads", "1", "--bootstrap-draws", "199", "--device", "cpu")
TIMELESS = {"timings": {}, "finished": ""}
COMMAND = (sys.executable, "-m", "backscan.scanner")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: an attacked model, one without an attack, and their images."""
    write_model(tmp_path, "attacked.onnx")
    write_model(tmp_path, "ordinary.onnx", source=None)
    write_images(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Callable[..., Result]:  # noqa: ARG001 - where it runs
    """`scanner` with arguments, in this process."""
    return lambda *arguments: CliRunner().invoke(app.app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The JSON report of the attacked model."""
    place = tmp_path_factory.mktemp("report")
    arguments = ["check", write_model(place, "attacked.onnx"), "--data", write_images(place), *QUICK, "--report", "-"]
    done = CliRunner().invoke(app.app, [str(argument) for argument in arguments])
    assert done.exit_code == 1
    return done.stdout


@pytest.fixture
def reported(folder: Path, report: str) -> Path:
    """That report in the working folder."""
    (folder / "out.json").write_text(report)
    return folder


def check(run: Callable[..., Result], *arguments: object) -> Result:
    return run("check", *arguments, "--data", "images.npz", *QUICK)


def shell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`scanner` as a process of its own."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=120, env=os.environ | environment, check=False
    )


def test_0_nothing_detected(run):
    done = check(run, "ordinary.onnx", "--report", "out.json")
    assert done.exit_code == 0
    assert json.loads(Path("out.json").read_text())["verdict"] == "not_detected"
    assert "NO BACKDOOR DETECTED" in done.stdout


def test_1_backdoor_detected(run):
    done = check(run, "attacked.onnx", "--report", "out.json")
    assert done.exit_code == 1
    report = json.loads(Path("out.json").read_text())
    assert (report["verdict"], report["source"], report["target"]) == ("backdoor_detected", SOURCE, TARGET)
    assert "BACKDOOR DETECTED" in done.stdout


MISTAKES = {
    "no such model": ["check", "missing.onnx"],
    "no such data": ["check", "attacked.onnx", "--data", "missing.npz"],
    "data that is none": ["check", "attacked.onnx", "--data", "notes.txt"],
    "corrupt archive": ["check", "attacked.onnx", "--data", "corrupt.npz"],
    "corrupt image": ["check", "attacked.onnx", "--data", "corrupt"],
    "labels out of range": ["check", "attacked.onnx", "--data", "labels.npz", "--no-sandbox"],
    "mean of three": ["check", "attacked.onnx", "--data", "images.npz", "--mean", "0.1,0.2,0.3", "--no-sandbox"],
    "std of zero": ["check", "attacked.onnx", "--data", "images.npz", "--std", "0", "--no-sandbox"],
    "range of nothing": ["check", "attacked.onnx", "--data", "images.npz", "--range", "1", "1", "--no-sandbox"],
    "mean that is no number": ["check", "attacked.onnx", "--data", "images.npz", "--mean", "nan", "--no-sandbox"],
    "text for a number": ["check", "attacked.onnx", "--mean", "half"],
    "no such class": ["check", "attacked.onnx", "--data", "images.npz", "--targets", "5", *QUICK],
    "pair of one class": ["check", "attacked.onnx", "--pairs", "1:1"],
    "pair without target": ["check", "attacked.onnx", "--pairs", "1"],
    "unknown norm": ["check", "attacked.onnx", "--norm", "l3"],
    "unknown preset": ["check", "attacked.onnx", "--preset", "AD"],
    "unknown budget": ["check", "attacked.onnx", "--budget", "lavish"],
    "unknown format": ["check", "attacked.onnx", "--format", "yaml"],
    "unknown report": ["check", "attacked.onnx", "--report", "report.pdf"],
    "no folder for the report": ["check", "attacked.onnx", "--report", "missing/report.json"],
    "negative seed": ["check", "attacked.onnx", "--seed", "-1"],
    "no such output": ["check", "attacked.onnx", "--data", "images.npz", "--output-name", "foo", *QUICK],
    "no such cut": ["check", "attacked.onnx", "--data", "images.npz", "--detector", "features", "--cut", "foo", *QUICK],
    "cut without features": ["check", "attacked.onnx", "--detector", "pairwise", "--cut", "pixels"],
    "resume without journal": ["check", "attacked.onnx", "--resume"],
    "journal on a file": ["check", "attacked.onnx", "--data", "images.npz", "--journal", "notes.txt", *QUICK],
    "class names that are none": ["check", "attacked.onnx", "--class-names", "missing.txt"],
    "no such report": ["infer", "missing.json"],
    "report that is none": ["infer", "notes.txt"],
    "empty report": ["infer", "empty.json"],
    "deep report": ["infer", "deep.json"],
    "verify without report": ["verify", "missing.json", "attacked.onnx", "--data", "images.npz"],
    "verify without data": ["verify", "empty.json", "attacked.onnx"],
    "no such model to inspect": ["inspect", "missing.onnx"],
}


@pytest.mark.parametrize("name", MISTAKES)
def test_2_the_users_mistake_is_one_sentence(run, folder, name):
    (folder / "notes.txt").write_text("nothing of use")
    (folder / "corrupt.npz").write_bytes((folder / "images.npz").read_bytes()[:-100])
    (folder / "empty.json").write_text("{}")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "corrupt" / "0").mkdir(parents=True)
    (folder / "corrupt" / "0" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    write_images(folder, "labels.npz", relabel={4: 5})
    done = run(*MISTAKES[name])
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("scanner: ")
    assert len(done.stderr.splitlines()) == 1
    assert "internal error" not in done.stderr


@pytest.mark.parametrize("arguments", [["check"], ["check", "a.onnx", "--colour"], ["clean", "a.onnx"], []], ids=str)
def test_2_a_command_line_that_cannot_be_read(run, arguments):
    assert run(*arguments).exit_code == 2


def test_mistakes_in_where_to_write_are_told_before_the_work(run, monkeypatch):
    monkeypatch.setattr(one_model, "scan_one", lambda *_: pytest.fail("a scan began"))
    for arguments in (["--report", "x.pdf"], ["--report", "missing/x.json"], ["--format", "yaml"]):
        assert check(run, "attacked.onnx", *arguments).exit_code == 2


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a model"], ids=["empty", "zip"])
def test_3_no_verdict(run, folder, content):
    (folder / "broken.onnx").write_bytes(content)
    done = check(run, "broken.onnx", "--report", "out.json")
    assert done.exit_code == 3
    report = json.loads(Path("out.json").read_text())
    assert (report["verdict"], report["pairs"]) == ("no_verdict", [])
    assert "NO VERDICT" in done.stdout


def test_4_inconclusive(run, folder):
    (folder / "elsewhere").mkdir()
    alone = write_model(folder / "elsewhere")
    done = run("check", alone, *QUICK)
    assert done.exit_code == 4
    assert "No images were given" in done.stdout
    write_images(folder, "few.npz", per_class=7)
    done = run("check", "attacked.onnx", "--data", "few.npz", *QUICK)
    assert done.exit_code == 4
    assert "No class has enough images" in done.stdout


def functions_of(module: ModuleType) -> set[str]:
    return {name for name, value in vars(module).items() if isinstance(value, FunctionType)}


# Not on the way of a scan that has a verdict, windows, and no time limit or cache.
_ASIDE = {
    "corrected_by_null",
    "limited",
    "renamed",
    "searching",
    "dataclass",
    "replace",
    "judge_without_images",
}
_ASIDE |= {"refuse_other_kinds", "scan"}
STEPS = [
    *((pipeline, name) for name in sorted(functions_of(pipeline) - _ASIDE)),
    *((conclusion, name) for name in ("conclude", "replay", "judge")),
]
_WITHOUT_IMAGES = {"judge_without_images": pipeline, "given_normalisation": targets, "_difference_on_noise": targets}
# What a scan asks of the model.
METHODS = [
    (ModelProcess, "audit"),
    (ModelProcess, "open"),
    *((OpenedModel, name) for name in ("decisions", "settle")),
    *((SettledModel, name) for name in ("decisions", "find_switches", "compare", "cut", "prepare", "search_targets")),
    *((PreparedSearch, name) for name in ("estimate", "optimise")),
]


def broken(*_: object, **__: object) -> object:
    raise ValueError("math domain error")


@pytest.mark.parametrize(("module", "step"), STEPS, ids=lambda value: getattr(value, "__name__", value))
def test_70_an_exception_in_any_step_is_never_a_detection(run, monkeypatch, module, step):
    """An uncaught exception exits 1, which means that a backdoor was detected."""
    monkeypatch.setattr(module, step, broken)
    done = check(run, "attacked.onnx", "--journal", "journal", "--images-per-class", "5", "--pairs", "1:3,0:2,2:1,3:0")
    assert done.exit_code == 70
    assert done.stderr.splitlines()[-1].startswith("scanner: internal error, please report it: ValueError: math")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("step", sorted(_WITHOUT_IMAGES))
def test_70_nor_is_one_in_a_scan_without_images(run, monkeypatch, folder, step):
    monkeypatch.setattr(_WITHOUT_IMAGES[step], step, broken)
    (folder / "alone").mkdir()
    write_model(folder / "alone", "model.onnx")
    done = run("check", "alone/model.onnx", "--no-sandbox")
    assert done.exit_code == 70
    assert "internal error, please report it: ValueError: math domain error" in done.stderr


@pytest.mark.parametrize(("handle", "method"), METHODS, ids=lambda value: getattr(value, "__name__", value))
def test_70_an_exception_in_any_call_of_the_model_is_never_a_detection(run, monkeypatch, handle, method):
    monkeypatch.setattr(handle, method, broken)
    monkeypatch.setattr(screening, "NUM_DRAWN", 4)
    needed = {"cut": "--detector features", "search_targets": "--detector margin", "estimate": "--screen on"}
    done = check(run, "attacked.onnx", "--images-per-class", "5", *needed.get(method, "").split())
    assert done.exit_code == 70
    assert "internal error, please report it: ValueError: math domain error" in done.stderr


@pytest.mark.parametrize("error", [MemoryError, RecursionError, AssertionError, OSError, KeyError, ZeroDivisionError])
def test_70_whatever_the_exception(run, monkeypatch, error):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(pipeline, "provenance", fail)
    assert check(run, "attacked.onnx").exit_code == 70


@pytest.mark.usefixtures("reported")
@pytest.mark.parametrize("command", ["infer", "verify", "render", "inspect", "demo", "schema"])
def test_70_in_every_command(run, monkeypatch, command):
    """Raised where the command leaves the command line."""
    homes = {
        "infer": "backscan.scanner.pipeline.rejudge.infer",
        "verify": "backscan.scanner.pipeline.rejudge.verify",
        "render": "backscan.scanner.cli.output.for_stdout",
        "inspect": "backscan.scanner.cli.inspect.inspect_model",
        "demo": "backscan.scanner.cli.demo.run_demo",
        "schema": "backscan.scanner.results.json_schema",
    }
    arguments = {
        "infer": ["out.json"],
        "verify": ["out.json", "attacked.onnx", "--data", "images.npz"],
        "render": ["out.json"],
        "inspect": ["attacked.onnx"],
    }.get(command, [])
    monkeypatch.setattr(homes[command], broken)
    done = run(command, *arguments)
    assert done.exit_code == 70
    assert done.stderr.splitlines()[-1].startswith("scanner: internal error")


@pytest.mark.parametrize(
    "end", [SystemExit(1), RuntimeError("broken installation"), OSError(32, "broken pipe")], ids=repr
)
def test_70_where_no_command_gave_the_verdict(monkeypatch, capsys, end):
    """Libraries, and typer where nobody reads, end a process with 1 as they like."""
    monkeypatch.setattr(app, "app", lambda: (_ for _ in ()).throw(end))
    with pytest.raises(SystemExit) as caught:
        app.main()
    assert caught.value.code == 70
    assert "Traceback" not in capsys.readouterr().err


def test_main_passes_on_what_a_command_returned(run, monkeypatch):
    check(run, "attacked.onnx")
    for code in (0, 1, 2, 3, 4, 70, 130):
        monkeypatch.setattr(app, "app", lambda code=code: sys.exit(code))
        with pytest.raises(SystemExit) as caught:
            app.main()
        assert caught.value.code == code


def test_names_in_a_message_cannot_steer_the_terminal(run):
    """A folder of images may come from anybody."""
    done = run("check", "attacked.onnx", "--data", "images/\x1b[2J\nscanner: all is well")
    assert done.exit_code == 2
    assert "\x1b" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_debug_shows_the_traceback(run, monkeypatch):
    monkeypatch.setattr(pipeline, "compare", broken)
    done = run("--debug", "check", "attacked.onnx", "--data", "images.npz", *QUICK)
    assert done.exit_code == 70
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("scanner: internal error")


def test_70_in_the_models_process_too(run, monkeypatch):
    """The child answers with an exception that nobody foresaw; `--debug` shows where."""
    monkeypatch.setattr("backscan.scanner.process.parent._HOST", "tests.scanner.process.failing_host:FailingHost")
    done = run("--debug", "check", "attacked.onnx", "--data", "images.npz", "--preprocess", "none")
    assert done.exit_code == 70
    assert "failing_host.py" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("scanner: step 'prepare' failed inside the scanner")


def test_130_interrupted_anywhere(run, monkeypatch):
    for step in ("read", "audit", "split_images", "replay_and_judge"):

        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(pipeline, step, interrupt)
            assert check(run, "attacked.onnx").exit_code == 130


def interrupt_after_some_pairs(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Ctrl-C, as a terminal sends it: to the whole group, once the journal holds some pairs."""
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        journal = Path("kept/pairs.jsonl")
        deadline = time.monotonic() + 90
        while not (journal.exists() and len(journal.read_bytes().splitlines()) > 5):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def test_130_an_interrupt_leaves_a_report_and_the_way_on(run, folder):
    write_model(folder, "large.onnx", num_classes=12)
    write_images(folder, "large.npz", num_classes=12, per_class=150)
    options = ["--data", "large.npz", *QUICK, "--seed", "0", "--images-per-class", "110", "--report", "out.json"]
    options.remove("--no-sandbox")
    arguments = ["check", "large.onnx", *options, "--journal", "kept"]
    done = interrupt_after_some_pairs(arguments)
    assert done.returncode == 130, done
    assert "Traceback" not in done.stderr
    partial = json.loads(Path("out.json").read_text())
    assert (partial["verdict"], partial["reasons"]) == ("inconclusive", ["the scan was interrupted"])
    continued = done.stderr.splitlines()[-1].partition("continue with: ")[2]
    assert continued == f"scanner {' '.join(arguments)} --resume"
    assert run(*continued.split()[1:], "--no-sandbox").exit_code == 1
    resumed = ScanResult.from_dict(json.loads(Path("out.json").read_text()))
    assert run("check", "large.onnx", *options, "--no-sandbox").exit_code == 1
    whole = ScanResult.from_dict(json.loads(Path("out.json").read_text()))
    assert resumed.to_dict() | TIMELESS == whole.to_dict() | TIMELESS


def test_several_models_make_one_report_and_one_code(run, folder):
    (folder / "broken.onnx").write_bytes(b"")
    for models, code in (
        (["ordinary.onnx", "attacked.onnx"], 1),
        (["broken.onnx", "ordinary.onnx"], 3),
        (["broken.onnx", "attacked.onnx"], 1),
        (["ordinary.onnx", "ordinary.onnx"], 0),
    ):
        done = check(run, *models, "--report", "out.json")
        assert done.exit_code == code
    done = check(run, "ordinary.onnx", "broken.onnx", "attacked.onnx", "--report", "-")
    document = json.loads(done.stdout)
    assert list(document) == ["schema_version", "reports"]
    assert [report["verdict"] for report in document["reports"]] == ["not_detected", "no_verdict", "backdoor_detected"]


def test_an_option_that_one_of_several_models_has_not_leaves_that_one_without_a_verdict(run):
    model = onnx.load("ordinary.onnx")
    model.graph.output[0].name = model.graph.node[-1].output[0] = "other"
    onnx.save(model, "renamed.onnx")
    options = ("--output-name", "scores", "--report", "out.json")
    done = check(run, "renamed.onnx", "attacked.onnx", *options)
    assert done.exit_code == 1
    reports = json.loads(Path("out.json").read_text())["reports"]
    assert [report["verdict"] for report in reports] == ["no_verdict", "backdoor_detected"]
    assert "pass --output-name with one of 'other'" in reports[0]["reasons"][0]
    assert "renamed.onnx: 'scores' is no output of the model" in done.stderr
    assert check(run, "renamed.onnx", "ordinary.onnx", *options).exit_code == 3
    assert check(run, "renamed.onnx", *options).exit_code == 2
    assert check(run, "renamed.onnx", "ordinary.onnx", "--output-name", "neither").exit_code == 2


def test_a_failure_loses_no_finished_scan(run, monkeypatch):
    scan_one = one_model.scan_one

    def fail_on_the_second(path: Path, *arguments: Any) -> ScanResult:
        if path.name == "attacked.onnx":
            raise UserError("expected more, found less: add it")
        return scan_one(path, *arguments)

    monkeypatch.setattr(one_model, "scan_one", fail_on_the_second)
    done = check(run, "ordinary.onnx", "attacked.onnx", "--report", "out.json")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == "scanner: expected more, found less: add it"
    assert json.loads(Path("out.json").read_text())["verdict"] == "not_detected"


@pytest.mark.parametrize(
    ("error", "code"),
    [(UserError("no samples"), 70), (NoVerdictError("damaged"), 70), (Interrupted(examples.no_verdict()), 130)],
    ids=repr,
)
def test_the_demo_ends_with_70_or_130_whatever_is_wrong(run, monkeypatch, error, code):
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr("backscan.scanner.cli.demo.run_demo", fail)
    assert run("demo").exit_code == code


@pytest.mark.parametrize(("right", "code"), [(True, 0), (False, 70)])
def test_the_demo_ends_with_0_only_if_both_verdicts_are_right(run, monkeypatch, tmp_path, right, code):
    shown = Demonstration("what was found\n", right, (examples.detected(3), examples.not_detected(3)))
    monkeypatch.setattr("backscan.scanner.cli.demo.run_demo", lambda _: shown)
    done = run("demo", "--report", str(tmp_path / "demo.html"))
    assert (done.exit_code, done.stdout) == (code, "what was found\n")
    assert "<html" in (tmp_path / "demo.html").read_text(encoding="utf-8")


def test_json_goes_to_stdout_alone(run):
    for arguments in (["--report", "-"], ["--format", "json"]):
        done = check(run, "attacked.onnx", *arguments)
        assert done.exit_code == 1
        assert json.loads(done.stdout)["verdict"] == "backdoor_detected"
        assert done.stderr


def test_the_schema_is_that_of_the_reports(run):
    schema = json.loads(run("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(check(run, "attacked.onnx", "--report", "-").stdout))


def test_images_beside_the_model_are_used_and_told(run, folder):
    (folder / "images.npz").rename(folder / "attacked.npz")
    done = run("check", "attacked.onnx", *QUICK)
    assert done.exit_code == 1
    assert "found beside the model" in done.stdout


@pytest.mark.usefixtures("reported")
def test_infer_gives_the_identical_inference(run):
    done = run("infer", "out.json", "--report", "again.json")
    assert done.exit_code == 1
    assert json.loads(Path("again.json").read_text()) == json.loads(Path("out.json").read_text())
    assert run("infer", "out.json", "--significance", "0.001", "--published-p").exit_code == 1
    assert run("infer", "out.json", "--null", "normal").exit_code == 2


@pytest.mark.usefixtures("reported")
def test_a_model_is_told_where_it_stands_among_trusted_ones(run, folder):
    pool = folder / "trusted"
    pool.mkdir()
    refused = run("infer", "out.json", "--reference-reports", "trusted")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "found a folder without one: scan models that you trust" in refused.stderr
    check(run, "ordinary.onnx", "--report", "trusted/ordinary.json")
    done = run("infer", "out.json", "--reference-reports", "trusted", "--report", "again.json")
    assert json.loads(Path("again.json").read_text())["pool"]["p_value"] == 0.5
    assert "no of 1 report at least as extreme" not in done.stdout
    assert "0 of 1 report at least as extreme, p 0.5 by rank" in done.stdout
    Path("trusted/ordinary.json").write_text(Path("out.json").read_text())
    assert "none of the 1 reports of --reference-reports can be compared" in run(
        "infer", "out.json", "--reference-reports", "trusted"
    ).stdout.replace("\n", " ").replace("               ", "")
    check(run, "ordinary.onnx", "--report", "trusted/ordinary.json")
    checked = check(run, "attacked.onnx", "--reference-reports", "trusted")
    assert "0 of 1 report at least as extreme" in checked.stdout


@pytest.mark.usefixtures("reported")
def test_verify_confirms_the_model_and_no_other(run):
    verify = ("verify", "out.json", "--data", "images.npz", "--no-sandbox", "--report", "-")
    confirmed = run(*verify[:2], "attacked.onnx", *verify[2:])
    assert confirmed.exit_code == 1
    assert json.loads(confirmed.stdout)["verification"]["confirmed"]
    other = run(*verify[:2], "ordinary.onnx", *verify[2:])
    assert other.exit_code == 4
    assert not json.loads(other.stdout)["verification"]["confirmed"]


def test_inspect_tells_without_scanning(run, folder):
    done = run("inspect", "attacked.onnx", "--no-sandbox")
    assert done.exit_code == 0
    assert re.search(r"input\s+image: 1 x 8 x 8", done.stdout)
    as_json = json.loads(run("inspect", "attacked.onnx", "--format", "json").stdout)
    assert (as_json["opened"]["num_classes"], as_json["name"]) == (5, "attacked.onnx")
    assert as_json["protections"]
    (folder / "broken.onnx").write_bytes(b"")
    assert run("inspect", "broken.onnx").exit_code == 3


def test_render_and_no_images(run):
    check(run, "attacked.onnx", "--report", "out.json", "--no-images")
    assert json.loads(Path("out.json").read_text())["examples"] == []
    done = run("render", "out.json")
    assert done.exit_code == 0
    assert "BACKDOOR DETECTED" in done.stdout


def configuration(done: Result) -> dict:
    return json.loads(done.stdout)["config"]


def test_explicit_options_win_over_a_preset(run):
    options = ("--report", "-", "--targets", str(TARGET))
    preset = configuration(check(run, "attacked.onnx", "--preset", "AD-J-C", *options))
    assert (preset["objective"], preset["inference"], preset["step_rule"]) == ("J", "corrected", "plain")
    assert preset["published_p"]
    mixed = configuration(
        check(run, "attacked.onnx", "--preset", "AD-J-C", "--objective", "ce", "--step-rule", "unit", *options)
    )
    assert (mixed["objective"], mixed["inference"], mixed["step_rule"]) == ("ce", "corrected", "unit")
    calibrated = configuration(check(run, "attacked.onnx", "--preset", "AD-J-P", "--calibrated-p", *options))
    assert not calibrated["published_p"]


def test_explicit_options_win_over_a_budget(run):
    options = ("--report", "-", "--targets", str(TARGET))
    quick = configuration(check(run, "attacked.onnx", "--budget", "quick", *options))
    assert (quick["images_per_class"], quick["screen"]) == (50, "auto")
    mixed = configuration(check(run, "attacked.onnx", "--budget", "thorough", "--images-per-class", "30", *options))
    assert (mixed["images_per_class"], mixed["screen"]) == (30, "off")


def test_options_reach_the_scan(run):
    done = check(
        run,
        *("attacked.onnx", "--report", "-", "--pairs", "1:3,3:1,0:2,2:4,4:0", "--mean", "0.0", "--std", "1"),
        *(
            "--range",
            "0",
            "1",
            "--goal-rate",
            "0.7",
            "--images-per-class",
            "12",
            "--seed",
            "5",
            "--min-accuracy",
            "0.9",
        ),
    )
    report = json.loads(done.stdout)
    assert [(p["source"], p["target"]) for p in report["pairs"]] == [(0, 2), (1, 3), (2, 4), (3, 1), (4, 0)]
    assert report["data"]["images_per_class"] == [12] * 5
    assert (report["config"]["seed"], report["provenance"]["seed"], report["config"]["goal_rate"]) == (5, 5, 0.7)
    assert (report["preprocessing"]["name"], report["preprocessing"]["chosen_by"]) == ("given", "option")


def test_quiet_leaves_warnings_and_verbose_names_the_steps(run):
    told = check(run, "attacked.onnx").stderr
    assert "20 class pairs to search" in told
    images = dict(np.load("images.npz"))
    np.savez("doubled.npz", x=np.concatenate([images["x"]] * 2), y=np.concatenate([images["y"]] * 2))
    quiet = run("--quiet", "check", "attacked.onnx", "--data", "doubled.npz", *QUICK)
    assert quiet.stderr.startswith("warning: 100 of 200 images in doubled.npz are exact copies")
    assert len(quiet.stderr.splitlines()) == 1
    assert quiet.stdout, "the verdict is no message"
    verbose = run("--verbose", "check", "attacked.onnx", "--data", "images.npz", *QUICK).stderr
    for step in ("intake", "open", "images", "parity", "search", "inference", "verification"):
        assert f"{step} ..." in verbose


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """Standard output of `scanner` where that is a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm-256color"} | environment,
    ) as process:
        os.close(theirs)
        written = b""
        try:
            while chunk := os.read(ours, 4096):
                written += chunk
        except OSError:  # the other side is closed
            pass
        process.wait(timeout=60)
    os.close(ours)
    return written.decode()


@pytest.mark.usefixtures("reported")
def test_colours_on_a_terminal_and_never_with_no_color():
    assert "\x1b[" in on_a_terminal("render", "out.json")
    assert "\x1b[" not in on_a_terminal("render", "out.json", NO_COLOR="1")
    assert "\x1b[" not in shell("render", "out.json").stdout


def test_no_output_calls_a_model_clean_or_safe(run, folder):
    """The word is for images and accuracy only."""
    (folder / "broken.onnx").write_bytes(b"")
    for model in ("attacked.onnx", "ordinary.onnx", "broken.onnx"):
        done = check(run, model)
        words = re.sub(r"clean (accuracy|images|set)", "", done.output, flags=re.IGNORECASE)
        assert not re.search(r"\b(clean|safe)\b", words, re.IGNORECASE)


def test_every_scan_says_what_was_not_tested_and_how_much_it_could_see(run):
    for model in ("attacked.onnx", "ordinary.onnx"):
        out = " ".join(check(run, model).stdout.split())
        assert "not tested" in out
        assert re.search(r"of planted pairs whose smallest pattern has size \S+ \(L2\)", out)


def test_the_command_that_repeats_the_scan_is_recorded(run, monkeypatch):
    arguments = ["check", "ordinary.onnx", "--data", "images.npz", *QUICK, "--report", "-"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/scanner", *arguments])
    first = json.loads(run(*arguments).stdout)
    assert first["provenance"]["command"] == f"scanner {' '.join(arguments)}"
    again = json.loads(run(*first["provenance"]["command"].split()[1:]).stdout)
    assert first | TIMELESS == again | TIMELESS


@pytest.mark.usefixtures("reported")
def test_output_that_a_stream_cannot_write_is_no_error():
    done = shell("infer", "out.json", PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert "BACKDOOR DETECTED" in done.stdout


@pytest.mark.usefixtures("reported")
def test_nobody_reading_is_no_verdict():
    """The reader of standard output is gone before a word is written."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, "schema"], stdout=writer, stderr=subprocess.PIPE, check=False, timeout=120)
    os.close(writer)
    assert done.returncode == 2
    assert b"standard output" in done.stderr
    assert b"Traceback" not in done.stderr


def test_help_and_version_are_light():
    for arguments in (["--help"], ["check", "--help"], ["--version"]):
        done = shell(*arguments)
        assert done.returncode == 0
        assert done.stdout
        assert done.stderr == ""


def test_every_option_of_a_scan_is_told():
    told = CliRunner().invoke(app.app, ["check", "--help-all"], terminal_width=200).stdout
    for option in OPTIONS.values():
        for spelled in option.flag.split("/"):
            assert f"{spelled} " in told


def test_help_begins_with_the_dozen_that_most_scans_need():
    told = CliRunner().invoke(app.app, ["check", "--help"], terminal_width=200).stdout
    shown = set(re.findall(r"(?<=\u2502 )--[a-z-]+", told))
    assert shown == {
        *("--data", "--labels", "--class-names", "--preprocess", "--report", "--format", "--baseline", "--fail-on"),
        *("--time-limit", "--journal", "--resume", "--config", "--help-all", "--help"),
    }
    assert CliRunner().invoke(app.app, ["check", "model.onnx", "--help-all", "--seed", "x"]).exit_code == 0


def test_time_counts_from_the_process_only_where_it_was_started_for_the_command(monkeypatch):
    """A second command in one process, or one of a program, has all of its time."""
    monkeypatch.setattr(Settings, "owns_process", False)
    assert several_models._began() is None
    monkeypatch.setattr(Settings, "owns_process", True)
    assert several_models._began() == pytest.approx(process_began(), abs=1.0)
