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

from backscan.scanner.cli import options
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import (
    ExitCode,
    InternalError,
    OptionError,
    ScanError,
    UserError,
)
from backscan.scanner.pipeline.ends import Interrupted, NameNotInModelError

if TYPE_CHECKING:
    from backscan.scanner.cli.baseline import Baseline
    from backscan.scanner.images.cleanset import CleanSet
    from backscan.scanner.results import ScanResult
    from backscan.scanner.store.cache import ScanCache

P = ParamSpec("P")

_DEFAULTS = ScanConfig()
_INTERNAL = "internal error, please report it: {}: {}"

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
    configured: Sequence[str] = ()
    """Options from a configuration file, as they would be written on the command line."""
    detected = False
    """Whether the command returned that a backdoor was detected."""


def main() -> None:
    """Entry point of the console command. It exits 1 only if a command returned that."""
    try:
        app()
    except SystemExit as end:
        # typer exits 1 where nobody reads its output, and a library may do so at any time.
        sys.exit(int(ExitCode.INTERNAL) if end.code == ExitCode.DETECTED and not _Settings.detected else end.code)
    except Exception as error:
        _say(_INTERNAL.format(type(error).__name__, error))
        sys.exit(int(ExitCode.INTERNAL))


def _version(wanted: bool) -> None:
    if wanted:
        from backscan.scanner.provenance import version

        typer.echo(f"backscan {version()}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - handled by its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no messages; warnings stay.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Name every step.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an internal error.")] = False,
) -> None:
    _Settings.quiet, _Settings.verbose, _Settings.debug, _Settings.configured = quiet, verbose, debug, []
    if context.invoked_subcommand == "check":
        try:
            _configure_from_file(context)
        except OptionError as error:
            _fail(str(error), error.exit_code, error)


def _configure_from_file(context: typer.Context) -> None:
    """Make the options of a configuration file the defaults of `check`."""
    from backscan.scanner.cli.config_file import arguments, defaults, find_configuration

    configuration = find_configuration(Path.cwd())
    if configuration is None:
        return
    parameters = typer.main.get_command(app).commands["check"].params  # type: ignore[attr-defined]
    context.default_map = {"check": defaults(configuration, parameters)}
    _Settings.configured = arguments(configuration, parameters, sys.argv[1:])
    if not _Settings.quiet:
        typer.echo(f"options from {configuration.path}", err=True)


def _exits(command: Callable[P, ExitCode]) -> Callable[P, None]:
    """Turn what a command returns or raises into an exit code and one sentence (CONTRACT, Exit codes)."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        _Settings.detected = False
        try:
            code = command(*args, **kwargs)
        except (KeyboardInterrupt, Interrupted):
            _fail("interrupted", ExitCode.INTERRUPTED)
        except ScanError as error:
            _fail(str(error), error.exit_code, error)
        except Exception as error:  # an uncaught exception would exit 1 and look like a detection
            _fail(_INTERNAL.format(type(error).__name__, error), ExitCode.INTERNAL, error)
        _Settings.detected = code is ExitCode.DETECTED
        raise typer.Exit(int(code))

    return run


def _fail(sentence: str, code: ExitCode, error: Exception | None = None) -> NoReturn:
    if _Settings.debug and error is not None:
        traceback.print_exception(error, file=sys.stderr)
    _say(sentence)
    raise typer.Exit(int(code))


def _say(sentence: str) -> None:
    """One line on standard error; names from files in it cannot steer the terminal."""
    from backscan.scanner.reports.text import printable

    typer.echo(f"scanner: {printable(sentence)}", err=True)


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
    screen: options.Screen = None,
    detector: options.DetectorNames = None,
    cut: options.Cut = None,
    objective: options.Objective = None,
    norm: options.Norm = None,
    box: options.Box = None,
    step_rule: options.StepRule = None,
    mask_weight: options.MaskWeight = None,
    goal_rate: options.GoalRate = None,
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
    anomaly_threshold: options.AnomalyThreshold = None,
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
    save_pattern: options.SavePattern = None,
    baseline: options.Baseline = None,
    fail_on: options.FailOn = "any",
    cache: options.Cache = False,
) -> ExitCode:
    """Scan models for backdoors and say what was found."""
    from backscan.scanner.cli import output
    from backscan.scanner.cli.baseline import read_baseline
    from backscan.scanner.cli.exit_code import FAIL_ON
    from backscan.scanner.cli.model_paths import expand
    from backscan.scanner.results import Verdict

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
        cut=cut,
        objective=objective,
        norm=norm,
        box=box,
        step_rule=step_rule,
        screen=screen,
        mask_weight=mask_weight,
        anomaly_threshold=anomaly_threshold,
        goal_rate=goal_rate,
        max_size=max_size,
        max_steps=max_steps,
        statistics=tuple(statistic) if statistic else None,
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
    output.check_destinations(report or [], format_, save_pattern)
    options.one_of(fail_on, FAIL_ON, "--fail-on")
    known = read_baseline(baseline) if baseline else None
    names = _read_class_names(class_names)
    paths = expand(models)
    results: list[ScanResult] = []
    absent: list[NameNotInModelError] = []
    try:
        for path in paths:
            folder = _journal_of(path, journal) if len(paths) > 1 else journal
            kept = _cache() if cache else None
            try:
                results.append(_scan(path, _clean_set(path, data, labels), config, names, folder, kept, resume=resume))
            except NameNotInModelError as error:
                if len(paths) == 1:
                    raise
                _say(f"{_path_beneath(path)}: {error}")
                results.append(error.result)
                absent.append(error)
        if len(absent) == len(paths) and not any(each.verdict is Verdict.BACKDOOR_DETECTED for each in results):
            raise absent[0]
    except Interrupted as end:
        output.deliver(_named([*results, end.result], paths), report or [], format_)
        return _interrupted(journal)
    except Exception:
        if results:  # what took hours is not lost by what comes after it
            output.deliver(_named(results, paths), report or [], format_)
        raise
    results = _named(results, paths)
    output.deliver(results, report or [], format_)
    _save_pattern(results, save_pattern)
    return _end(results, fail_on, known)


@app.command()
@_exits
def inspect(
    model: options.Model,
    output_name: options.OutputName = None,
    image_size: options.ImageSize = None,
    tensors: Annotated[bool, typer.Option("--tensors", help="List where the model can be cut in two.")] = False,
    no_sandbox: options.NoSandbox = False,
    format_: options.Format = "terminal",
) -> ExitCode:
    """Show what a model takes and gives and what is built into it, without scanning it."""
    from backscan.scanner.cli import output
    from backscan.scanner.cli.inspect import describe, exit_code, inspect_model
    from backscan.scanner.reports.text import printable
    from backscan.scanner.results import to_json

    options.one_of(format_, output.STDOUT_FORMATS, "--format")
    config = ScanConfig(output_name=output_name, image_size=image_size, sandbox=not no_sandbox)
    inspection = inspect_model(model, config, tensors=tensors)
    if format_ == "json":
        output.print_text(to_json(inspection))
    else:
        output.print_text("".join(f"{printable(line)}\n" for line in describe(inspection).splitlines()))
    return exit_code(inspection)


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
    anomaly_threshold: options.AnomalyThreshold = None,
    report: options.Reports = None,
    format_: options.Format = "terminal",
) -> ExitCode:
    """Judge the pairs of a report again with other statistics; opens no model.

    An option that is not given stays as in the report, whatever its default.
    """
    from backscan.scanner.cli import output
    from backscan.scanner.pipeline import rejudge

    chosen = _given(
        statistics=tuple(statistic) if statistic else None,
        inference=inference,
        order=order,
        null=null,
        significance=significance,
        published_p=published_p,
        bootstrap_draws=bootstrap_draws,
        anomaly_threshold=anomaly_threshold,
    )
    output.check_destinations(report or [], format_)
    result = rejudge.infer(output.read_report(report_file), chosen)
    output.deliver([result], report or [], format_)
    return _end([result])


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
    from backscan.scanner.cli import output
    from backscan.scanner.pipeline import rejudge

    output.check_destinations(report or [], format_)
    clean = _clean_set(model, data, labels)
    if clean is None:
        raise OptionError(f"expected --data with the images of the scan, found none beside {model.name}: pass --data")
    result = rejudge.verify(output.read_report(report_file), model, clean, sandbox=not no_sandbox)
    output.deliver([result], report or [], format_)
    return _end([result])


@app.command()
@_exits
def render(
    report_file: options.Report,
    format_: Annotated[
        str,
        typer.Option("--format", help="terminal, json, html, markdown, sarif, junit, bom or attestation."),
    ] = "terminal",
) -> ExitCode:
    """Write a JSON report in another format to stdout."""
    from backscan.scanner.cli import output

    results = output.read_reports(report_file)
    output.print_text(output.for_stdout(results[0] if len(results) == 1 else results, format_))
    return ExitCode.NOT_DETECTED


@app.command()
@_exits
def demo(report: options.Reports = None) -> ExitCode:
    """Scan two small models that ship with the tool, one backdoored and one not, and compare with the truth."""
    from backscan.scanner.cli import output
    from backscan.scanner.cli.demo import run_demo

    files = report or []
    output.check_destinations(files, "terminal")
    try:
        with _progress() as progress:
            shown = run_demo(progress)
    except ScanError as error:  # the models are ours, so nothing about them is the user's mistake
        raise InternalError(f"the models of the demo cannot be scanned: {error}") from error
    output.write_reports(shown.results, files)
    output.print_text(shown.text)
    return ExitCode.NOT_DETECTED if shown.right else ExitCode.INTERNAL


@app.command()
@_exits
def schema() -> ExitCode:
    """Print the JSON schema of reports."""
    from backscan.scanner.cli import output
    from backscan.scanner.results import json_schema

    output.print_text(json.dumps(json_schema(), indent=2) + "\n")
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
    cache: ScanCache | None,
    *,
    resume: bool,
) -> ScanResult:
    from backscan.scanner.pipeline.scan import scan

    with _progress() as progress:
        return scan(
            model,
            clean,
            config,
            class_names=class_names,
            progress=progress,
            journal=journal,
            resume=resume,
            cache=cache,
            command=_command(),
        )


def _journal_of(model: Path, journal: Path | None) -> Path | None:
    """A folder of its own for each of several models, whose names may be equal."""
    import hashlib

    return journal and journal / f"{model.stem}-{hashlib.sha256(str(model).encode()).hexdigest()[:8]}"


def _named(results: Sequence[ScanResult], paths: Sequence[Path]) -> list[ScanResult]:
    """Results under the models' paths beneath the working directory, as baselines and dashboards know them."""
    from dataclasses import replace

    return [
        replace(result, model=replace(result.model, name=_path_beneath(path)))
        for result, path in zip(results, paths, strict=False)  # an interrupted run has fewer results
    ]


def _path_beneath(path: Path) -> str:
    try:
        return path.absolute().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.name


def _interrupted(journal: Path | None) -> ExitCode:
    """Tell how to go on."""
    again = f"{_command()} --resume"
    hint = f"continue with: {again}" if journal else "use --journal DIR to be able to continue next time"
    _say(f"interrupted; {hint}")
    return ExitCode.INTERRUPTED


def _clean_set(model: Path, data: Path | None, labels: Path | None) -> CleanSet | None:
    """The images named by --data, else those beside the model, else None."""
    from backscan.scanner.images.cleanset import CleanSet, find_beside

    if data is not None:
        return CleanSet.load(data, labels=labels)
    beside = find_beside(model)
    return None if beside is None else CleanSet.load(beside, labels=labels, found_beside_model=True)


_MAX_NAMES_BYTES = 1 << 20


def _read_class_names(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    from backscan.scanner.store.files import read_text, why_unreadable

    try:
        return [line.strip() for line in read_text(path, max_bytes=_MAX_NAMES_BYTES).splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"expected a text file with one class name a line in --class-names, found {path}: {why_unreadable(error)}"
        ) from error


def _progress() -> Any:
    from rich.console import Console

    from backscan.scanner.cli.progress_bar import ConsoleProgress

    return ConsoleProgress(Console(stderr=True), quiet=_Settings.quiet, verbose=_Settings.verbose)


def _command() -> str:
    """The command that repeats this run from its beginning: a resumed scan reports what an uninterrupted one does."""
    import shlex

    given = [argument for argument in sys.argv[1:] if argument != "--resume"]
    return shlex.join(["scanner", *given, *_Settings.configured])


def _cache() -> ScanCache:
    from backscan.scanner.provenance import provenance, version
    from backscan.scanner.store.cache import ScanCache, default_folder

    return ScanCache(default_folder(), {"backscan": version(), **provenance(seed=0, command="").libraries})


def _save_pattern(results: Sequence[ScanResult], path: Path | None) -> None:
    """The pattern of the first model that has one."""
    from backscan.scanner.cli import output

    if path is not None and not any(output.save_pattern(result, path) for result in results):
        _say(f"no pattern was recovered, so {path.name} was not written")


def _end(results: Sequence[ScanResult], fail_on: str = "any", known: Baseline | None = None) -> ExitCode:
    """The exit code of a run, with what was accepted told on standard error."""
    from backscan.scanner.cli.exit_code import outcome

    ended = outcome(results, fail_on=fail_on, baseline=known)
    for remark in ended.remarks:
        _say(f"warning: {remark}")
    return ended.code
