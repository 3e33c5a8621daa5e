"""The command line: parse, call, render, exit code. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import functools
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec

import typer

from backscan.scanner import options
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import ExitCode, Interrupted, OptionError, ReportError, ScanError, UserError

if TYPE_CHECKING:
    from backscan.scanner.cleanset import CleanSet
    from backscan.scanner.results import ScanResult

P = ParamSpec("P")

_DEFAULTS = ScanConfig()

app = typer.Typer(
    name="scanner",
    help="Says whether a trained image classifier in an ONNX file was backdoored, from which class to which, "
    "with what pattern, and how sure that is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class _Settings:
    """Options that stand before the command."""

    quiet = False
    verbose = False
    debug = False


def main() -> None:
    """Entry point of the console command."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        from backscan.scanner.provenance import version

        typer.echo(f"backscan {version()}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[  # noqa: ARG001 - handled by its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no messages; warnings stay.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Name every step.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an internal error.")] = False,
) -> None:
    _Settings.quiet, _Settings.verbose, _Settings.debug = quiet, verbose, debug


def _exits(command: Callable[P, ExitCode]) -> Callable[P, None]:
    """Turn what a command returns or raises into an exit code and one sentence (CONTRACT, Exit codes)."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
        except KeyboardInterrupt:
            _fail("interrupted", ExitCode.INTERRUPTED)
        except ScanError as error:
            _fail(str(error), error.exit_code, error)
        except Exception as error:  # an uncaught exception would exit 1 and look like a detection
            _fail(f"internal error, please report it: {type(error).__name__}: {error}", ExitCode.INTERNAL, error)
        raise typer.Exit(int(code))

    return run


def _fail(sentence: str, code: ExitCode, error: Exception | None = None) -> NoReturn:
    if _Settings.debug and error is not None:
        traceback.print_exception(error, file=sys.stderr)
    typer.echo(f"scanner: {sentence}", err=True)
    raise typer.Exit(int(code))


@app.command()
@_exits
def check(
    models: options.Models,
    data: options.Data = None,
    labels: options.Labels = None,
    class_names: options.ClassNames = None,
    images_per_class: options.ImagesPerClass = _DEFAULTS.images_per_class,
    preprocess: options.Preprocess = _DEFAULTS.preprocess,
    mean: options.Mean = None,
    std: options.Std = None,
    range_: options.Range = None,
    channel_order: options.ChannelOrder = None,
    image_size: options.ImageSize = None,
    min_accuracy: options.MinAccuracy = None,
    output_name: options.OutputName = None,
    targets: options.Targets = None,
    pairs: options.Pairs = None,
    detector: options.DetectorNames = None,
    objective: options.Objective = None,
    norm: options.Norm = None,
    box: options.Box = None,
    step_rule: options.StepRule = None,
    goal_rate: options.GoalRate = _DEFAULTS.goal_rate,
    max_size: options.MaxSize = None,
    max_steps: options.MaxSteps = _DEFAULTS.max_steps,
    preset: options.Preset = None,
    statistic: options.Statistic = None,
    inference: options.Inference = None,
    order: options.Order = None,
    null: options.Null = None,
    significance: options.Significance = None,
    published_p: options.PublishedP = None,
    bootstrap_draws: options.BootstrapDraws = None,
    seed: options.Seed = _DEFAULTS.seed,
    device: options.Device = _DEFAULTS.device,
    threads: options.Threads = None,
    time_limit: options.TimeLimit = None,
    journal: options.JournalFolder = None,
    resume: options.Resume = False,
    no_sandbox: options.NoSandbox = False,
    report: options.Reports = None,
    format_: options.Format = "terminal",
    no_images: options.NoImages = False,
) -> ExitCode:
    """Scan models for backdoors and say what was found."""
    config = _configure(
        preset,
        images_per_class=images_per_class,
        preprocess=preprocess,
        mean=options.numbers(mean, "--mean"),
        std=options.numbers(std, "--std"),
        range=range_,
        channel_order=channel_order,
        image_size=image_size,
        min_accuracy=min_accuracy,
        output_name=output_name,
        targets=options.classes(targets, "--targets"),
        pairs=options.pairs(pairs, "--pairs"),
        detectors=tuple(detector) if detector else None,
        objective=objective,
        norm=norm,
        box=box,
        step_rule=step_rule,
        goal_rate=goal_rate,
        max_size=max_size,
        max_steps=max_steps,
        statistic=statistic,
        inference=inference,
        order=order,
        null=null,
        significance=significance,
        published_p=published_p,
        bootstrap_draws=bootstrap_draws,
        seed=seed,
        device=device,
        threads=threads,
        time_limit=time_limit,
        sandbox=not no_sandbox,
        images_in_report=not no_images,
    )
    if resume and journal is None:
        raise OptionError("expected --journal with --resume, found none: name the folder of the interrupted scan")
    names = _read_class_names(class_names)
    results: list[ScanResult] = []
    try:
        for model in models:
            folder = journal / model.stem if journal and len(models) > 1 else journal
            results.append(_scan(model, _clean_set(model, data, labels), config, names, folder, resume=resume))
    except Interrupted as end:
        _deliver([*results, end.result], report or [], format_)
        return _interrupted(journal)
    _deliver(results, report or [], format_)
    return _exit_code(results)


@app.command()
@_exits
def inspect(
    model: options.Model,
    output_name: options.OutputName = None,
    image_size: options.ImageSize = None,
    no_sandbox: options.NoSandbox = False,
    format_: options.Format = "terminal",
) -> ExitCode:
    """Show what a model takes and gives, without scanning it."""
    from backscan.scanner.inspection import describe, inspect_model

    config = ScanConfig(output_name=output_name, image_size=image_size, sandbox=not no_sandbox)
    inspection = inspect_model(model, config)
    _print(json.dumps(inspection, indent=2) + "\n" if _is_json(format_) else describe(inspection))
    return ExitCode.NOT_DETECTED


@app.command()
@_exits
def infer(
    report_file: options.Report,
    statistic: options.Statistic = None,
    inference: options.Inference = None,
    order: options.Order = None,
    null: options.Null = None,
    significance: options.Significance = None,
    published_p: options.PublishedP = None,
    bootstrap_draws: options.BootstrapDraws = None,
    report: options.Reports = None,
    format_: options.Format = "terminal",
) -> ExitCode:
    """Judge the pairs of a report again with other statistics; opens no model."""
    from backscan.scanner import reconsider

    chosen = _given(
        statistic=statistic,
        inference=inference,
        order=order,
        null=null,
        significance=significance,
        published_p=published_p,
        bootstrap_draws=bootstrap_draws,
    )
    result = reconsider.infer(_read_report(report_file), chosen)
    _deliver([result], report or [], format_)
    return _exit_code([result])


@app.command()
@_exits
def verify(
    report_file: options.Report,
    model: options.Model,
    data: options.Data = None,
    labels: options.Labels = None,
    no_sandbox: options.NoSandbox = False,
    report: options.Reports = None,
    format_: options.Format = "terminal",
) -> ExitCode:
    """Replay the pattern of a report on a model with onnxruntime alone."""
    from backscan.scanner import reconsider

    clean = _clean_set(model, data, labels)
    if clean is None:
        raise OptionError(f"expected --data with the images of the scan, found none beside {model.name}: pass --data")
    result = reconsider.verify(_read_report(report_file), model, clean, sandbox=not no_sandbox)
    _deliver([result], report or [], format_)
    return _exit_code([result])


@app.command()
@_exits
def render(
    report_file: options.Report,
    format_: Annotated[str, typer.Option("--format", help="Name of a report format.")] = "terminal",
) -> ExitCode:
    """Write a JSON report in another format to stdout."""
    from backscan.scanner.reports import RENDERERS
    from backscan.scanner.reports import render as render_report

    if format_ not in RENDERERS:
        raise OptionError(f"expected --format to be one of {', '.join(RENDERERS)}, found {format_!r}")
    _print(render_report(_read_report(report_file), format_))
    return ExitCode.NOT_DETECTED


@app.command()
@_exits
def demo() -> ExitCode:
    """Scan two small models that ship with the tool, one backdoored and one not, and compare with the truth."""
    from backscan.scanner.demo import run_demo

    with _progress() as progress:
        text, right = run_demo(progress)
    _print(text)
    return ExitCode.NOT_DETECTED if right else ExitCode.INTERNAL


@app.command()
@_exits
def schema() -> ExitCode:
    """Print the JSON schema of reports."""
    from backscan.scanner.results import json_schema

    _print(json.dumps(json_schema(), indent=2) + "\n")
    return ExitCode.NOT_DETECTED


def _configure(preset: str | None, **chosen: Any) -> ScanConfig:
    """The configuration: defaults, then the preset, then what was given."""
    from dataclasses import replace

    config = _DEFAULTS.with_preset(preset) if preset else _DEFAULTS
    config = replace(config, **_given(**chosen))
    config.check()
    return config


def _given(**chosen: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in chosen.items() if value is not None}


def _scan(
    model: Path,
    clean: CleanSet | None,
    config: ScanConfig,
    class_names: Sequence[str] | None,
    journal: Path | None,
    *,
    resume: bool,
) -> ScanResult:
    from backscan.scanner.pipeline import scan

    with _progress() as progress:
        return scan(
            model,
            clean,
            config,
            class_names=class_names,
            progress=progress,
            journal=journal,
            resume=resume,
            command=_command(),
        )


def _interrupted(journal: Path | None) -> ExitCode:
    """Tell how to go on."""
    again = _command() if "--resume" in sys.argv else f"{_command()} --resume"
    hint = f"continue with: {again}" if journal else "use --journal DIR to be able to continue next time"
    typer.echo(f"scanner: interrupted; {hint}", err=True)
    return ExitCode.INTERRUPTED


def _clean_set(model: Path, data: Path | None, labels: Path | None) -> CleanSet | None:
    """The images named by --data, else those beside the model, else None."""
    from backscan.scanner.cleanset import find_beside, load_clean_set

    if data is not None:
        return load_clean_set(data, labels=labels)
    beside = find_beside(model)
    return None if beside is None else load_clean_set(beside, labels=labels, found_beside_model=True)


def _read_class_names(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"expected a text file with one class name a line in --class-names, found {path.name}: {error}"
        ) from error


def _read_report(path: Path) -> ScanResult:
    from backscan.scanner.results import ScanResult

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"expected a JSON report at {path}, found none: {error.strerror}") from error
    except ValueError as error:
        raise ReportError(f"expected a JSON report in {path.name}, found text that is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise ReportError(f"expected one JSON report in {path.name}, found a {type(document).__name__}")
    return ScanResult.from_dict(document)


def _deliver(results: Sequence[ScanResult], files: Sequence[Path], format_: str) -> None:
    """Write the report files, and one result to stdout."""
    from backscan.scanner.reports import format_of
    from backscan.scanner.reports import render as render_report

    shown: ScanResult | Sequence[ScanResult] = results[0] if len(results) == 1 else results
    to_stdout = False
    for file in files:
        if str(file) == "-":
            to_stdout = True
            _print(render_report(shown, "json"))
        else:
            _write(file, render_report(shown, format_of(str(file))))
    if not to_stdout:
        _print(_for_stdout(shown, "json" if _is_json(format_) else "terminal"))


def _for_stdout(shown: ScanResult | Sequence[ScanResult], format_: str) -> str:
    from rich.console import Console

    from backscan.scanner.reports import render as render_report

    if format_ == "json":
        return render_report(shown, "json")
    console = Console()
    return render_report(
        shown, "terminal", width=min(console.width, 100), colour=console.is_terminal and not console.no_color
    )


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"expected a place to write the report at {file}, found: {error.strerror}") from error


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _is_json(format_: str) -> bool:
    if format_ not in ("terminal", "json"):
        raise OptionError(f"expected --format to be terminal or json, found {format_!r}")
    return format_ == "json"


def _progress() -> Any:
    from rich.console import Console

    from backscan.scanner.progress import ConsoleProgress

    return ConsoleProgress(Console(stderr=True), quiet=_Settings.quiet, verbose=_Settings.verbose)


def _command() -> str:
    """The command that repeats this run."""
    import shlex

    return shlex.join(["scanner", *sys.argv[1:]])


def _exit_code(results: Sequence[ScanResult]) -> ExitCode:
    """One code for all results: 1 before 3 before 4 before 0."""
    from backscan.scanner.results import Verdict

    codes = {
        Verdict.BACKDOOR_DETECTED: ExitCode.DETECTED,
        Verdict.NO_VERDICT: ExitCode.NO_VERDICT,
        Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
        Verdict.NOT_DETECTED: ExitCode.NOT_DETECTED,
    }
    found = {result.verdict for result in results}
    return next(code for verdict, code in codes.items() if verdict in found)
