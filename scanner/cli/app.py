"""The command line: parse, call, render, exit code. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from backscan.scanner.choices import RUNNING
from backscan.scanner.cli import command_options, console
from backscan.scanner.cli.console import Settings, say
from backscan.scanner.cli.short_help import HELP_ALL, common_first
from backscan.scanner.cli.typer_signature import spread
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import ExitCode, InternalError, OptionError, ScanError
from backscan.scanner.pipeline.ends import Interrupted

if TYPE_CHECKING:
    from backscan.scanner.cli.baseline import Baseline
    from backscan.scanner.results import ScanResult

P = ParamSpec("P")

_INTERNAL = "internal error, please report it: {}: {}"

app = typer.Typer(
    name="scanner",
    help="Says whether a trained image classifier in an ONNX file was backdoored, from which class to which, "
    "with what pattern, and how sure that is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point of the console command. It exits 1 only if a command returned that."""
    Settings.owns_process = True
    try:
        app()
    except SystemExit as end:
        # typer exits 1 where nobody reads its output, and a library may do so at any time.
        sys.exit(int(ExitCode.INTERNAL) if end.code == ExitCode.DETECTED and not Settings.detected else end.code)
    except Exception as error:
        say(_INTERNAL.format(type(error).__name__, error))
        sys.exit(int(ExitCode.INTERNAL))
    finally:
        Settings.owns_process = False  # a program may call this again


def _version(wanted: bool) -> None:
    if wanted:
        from backscan.scanner.pipeline.provenance import version

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
    Settings.quiet, Settings.verbose, Settings.debug, Settings.configured = quiet, verbose, debug, []


def _configure_from_file(context: typer.Context, file: Path | None) -> Path | None:
    """Make the options of a configuration file the defaults of `check`."""
    try:
        _set_defaults(context, file)
    except OptionError as error:
        console.fail(str(error), error.exit_code, error)
    return file


def _set_defaults(context: typer.Context, file: Path | None) -> None:
    from backscan.scanner.cli.config_file import arguments, defaults, find_configuration, read_configuration

    configuration = read_configuration(file) if file else find_configuration(Path.cwd())
    if configuration is None:
        return
    parameters: list[Any] = [each for each in context.command.params if each.name not in ("config_file", HELP_ALL)]
    context.default_map = defaults(configuration, parameters, command_options.FROM_FOUND_FILE)
    if file is None:
        Settings.configured = arguments(configuration, parameters, sys.argv[1:])
    if not Settings.quiet:
        say(f"options from {configuration.path}")


def _exits(command: Callable[P, ExitCode]) -> Callable[P, None]:
    """Turn what a command returns or raises into an exit code and one sentence (CONTRACT, Exit codes)."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        Settings.detected = False
        try:
            code = command(*args, **kwargs)
        except (KeyboardInterrupt, Interrupted):
            console.fail("interrupted", ExitCode.INTERRUPTED)
        except ScanError as error:
            console.fail(str(error), error.exit_code, error)
        except Exception as error:  # an uncaught exception would exit 1 and look like a detection
            console.fail(_INTERNAL.format(type(error).__name__, error), ExitCode.INTERNAL, error)
        Settings.detected = code is ExitCode.DETECTED
        raise typer.Exit(int(code))

    return run


@app.command()
@_exits
@common_first
@spread
def check(
    models: command_options.Models,
    images: command_options.NamedImages,
    delivery: command_options.Delivery,
    chosen: command_options.Chosen,
    keeping: command_options.Keeping,
    ending: command_options.Ending,
    preset: command_options.Preset = None,
    config_file: Annotated[  # noqa: ARG001 - handled by its callback
        Path | None,
        typer.Option(
            "--config",
            callback=_configure_from_file,
            is_eager=True,
            help="File with options, any of them. Without it, backscan.toml or pyproject.toml in this folder or above "
            "may set those that say what the images are and which reports to write.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
) -> ExitCode:
    """Scan models for backdoors and say what was found. Most scans need few options; --help-all tells the rest."""
    from backscan.scanner.cli import output, several_models
    from backscan.scanner.cli.baseline import read_baseline
    from backscan.scanner.cli.exit_code import FAIL_ON
    from backscan.scanner.fleet.model_paths import expand

    config = _configure(preset, chosen, keeping.budget)
    if keeping.resume and keeping.journal is None:
        raise OptionError("expected --journal with --resume, found none: name the folder of the interrupted scan")
    output.check_destinations(delivery.report, delivery.format_, ending.save_pattern)
    command_options.one_of(ending.fail_on, FAIL_ON, "--fail-on")
    known = read_baseline(ending.baseline) if ending.baseline else None
    trusted = output.read_pool(ending.reference_reports)
    order = several_models.Order(config, images, several_models.read_class_names(images.class_names), keeping)
    paths = expand(models)
    results: list[ScanResult] = []
    try:
        for result in several_models.scanned(paths, order):
            results.append(_among(result, trusted))  # noqa: PERF401 - those before a failure stay
    except Interrupted as end:
        _deliver([*results, end.result], delivery)
        return _interrupted(keeping.journal)
    except Exception:
        if results:  # what took hours is not lost by what comes after it
            _deliver(results, delivery)
        raise
    _deliver(results, delivery)
    _save_pattern(results, ending.save_pattern)
    return _end(results, ending.fail_on, known)


@app.command()
@_exits
@spread
def inspect(
    model: command_options.Model,
    chosen: command_options.Opening,
    display: command_options.Display,
    tensors: command_options.Tensors = False,
) -> ExitCode:
    """Show what a model takes and gives and what is built into it, without scanning it."""
    from backscan.scanner.cli import output
    from backscan.scanner.cli.inspect import describe, exit_code, inspect_model
    from backscan.scanner.reports.text import printable
    from backscan.scanner.results import to_json

    command_options.one_of(display.format_, output.STDOUT_FORMATS, "--format")
    inspection = inspect_model(model, ScanConfig(**chosen), tensors=tensors)
    if display.format_ == "json":
        output.print_text(to_json(inspection))
    else:
        output.print_text("".join(f"{printable(line)}\n" for line in describe(inspection).splitlines()))
    return exit_code(inspection)


@app.command()
@_exits
@spread
def infer(
    report_file: command_options.Report,
    chosen: command_options.Judging,
    pool: command_options.Pool,
    delivery: command_options.Delivery,
) -> ExitCode:
    """Judge the pairs of a report again with other statistics; opens no model.

    An option that is not given stays as in the report, whatever its default.
    """
    from backscan.scanner.cli import output
    from backscan.scanner.pipeline import rejudge

    output.check_destinations(delivery.report, delivery.format_)
    trusted = output.read_pool(pool.reference_reports)
    result = _among(rejudge.infer(output.read_report(report_file), chosen), trusted)
    _deliver([result], delivery)
    return _end([result])


@app.command()
@_exits
@spread
def verify(
    report_file: command_options.Report,
    model: command_options.Model,
    images: command_options.Images,
    protection: command_options.Protection,
    delivery: command_options.Delivery,
) -> ExitCode:
    """Replay the pattern of a report on a model with onnxruntime alone."""
    from backscan.scanner.cli import output
    from backscan.scanner.cli.several_models import clean_set
    from backscan.scanner.pipeline import rejudge

    output.check_destinations(delivery.report, delivery.format_)
    sandbox = ScanConfig(**protection).sandbox
    report = output.read_report(report_file)
    clean = clean_set(model, images, report.model.class_names, sandbox=sandbox)
    if clean is None:
        raise OptionError(f"expected --data with the images of the scan, found none beside {model.name}: pass --data")
    result = rejudge.verify(report, model, clean, sandbox=sandbox)
    _deliver([result], delivery)
    return _end([result])


@app.command()
@_exits
@spread
def repair(
    model: command_options.Model,
    out: command_options.RepairedFile,
    images: command_options.Images,
    chosen: command_options.Repairing,
    writing: command_options.Writing,
    protection: command_options.Protection,
    report_file: command_options.GivenReport = None,
    loop: command_options.Loop = False,
) -> ExitCode:
    """Make a model forget its backdoor, measure that on the repaired file, and write it if that is believed."""
    from backscan.scanner.aftercare.options import RepairOptions
    from backscan.scanner.cli.aftercare import exit_code, repair_model

    order = command_options.After(images, writing, ScanConfig(**protection).sandbox, report_file)
    result = repair_model(model, out, RepairOptions(**chosen), order, only_detected=loop)
    return exit_code(result, loop=loop)


@app.command()
@_exits
@spread
def guard(
    model: command_options.Model,
    report_file: command_options.ScannedReport,
    out: command_options.GuardedFile,
    images: command_options.Images,
    writing: command_options.Writing,
    protection: command_options.Protection,
    false_alarms: command_options.FalseAlarms = 0.01,
    enforce: command_options.Enforce = None,
) -> ExitCode:
    """Write the model with one more output: how strongly each image carries the pattern of a report."""
    from backscan.scanner.cli.aftercare import add_guard

    order = command_options.After(images, writing, ScanConfig(**protection).sandbox, report_file)
    result = add_guard(model, out, order, rate=false_alarms, enforce=enforce)
    return ExitCode.INCONCLUSIVE if result.threshold is None else ExitCode.NOT_DETECTED


@app.command()
@_exits
@spread
def screen_images(
    images_to_screen: command_options.Screened,
    report_file: command_options.ScannedReport,
    images: command_options.Images,
    writing: command_options.Writing,
    protection: command_options.Protection,
    false_alarms: command_options.FalseAlarms = 0.01,
) -> ExitCode:
    """List the images of a folder that carry the pattern of a report; --data are the clean images to compare with."""
    from backscan.scanner.cli.aftercare import screen

    order = command_options.After(images, writing, ScanConfig(**protection).sandbox, report_file)
    listed = screen(images_to_screen, order, rate=false_alarms).listed
    return ExitCode.INCONCLUSIVE if listed else ExitCode.NOT_DETECTED


@app.command(name="compare")
@_exits
@spread
def compare_models(
    before: command_options.Side,
    after: command_options.Side,
    images: command_options.NamedImages,
    chosen: command_options.Chosen,
    keeping: command_options.Keeping,
    writing: command_options.ComparisonWriting,
    preset: command_options.Preset = None,
) -> ExitCode:
    """Scan two models for the same task and say which pairs of classes became easier from the first to the second.

    Exits 1 if either is detected by itself, 4 if the second has a new shortcut or either is inconclusive.
    """
    from backscan.scanner.cli import several_models
    from backscan.scanner.cli.comparing import CODES, Both, asked, compare_both

    if keeping.resume and keeping.journal is None:
        raise OptionError("expected --journal with --resume, found none: name the folder of the interrupted scan")
    config = _configure(preset, chosen, keeping.budget)
    order = several_models.Order(config, images, several_models.read_class_names(images.class_names), keeping)
    given = asked(images, keeping, chosen, preset)
    try:
        result = compare_both(Both(before, after), order, writing, keep=writing.scans, asked=given)
    except Interrupted:
        return _interrupted(keeping.journal)
    return CODES[result.outcome]


@app.command()
@_exits
@spread
def fragile(
    model: command_options.Model,
    images: command_options.Images,
    writing: command_options.Writing,
    protection: command_options.Protection,
    report_file: command_options.GivenReport = None,
    most: command_options.Most = 10,
    export: command_options.ExportedImages = None,
) -> ExitCode:
    """List the class pairs that a small common pattern confuses though nobody planted it, and what to train against."""
    from backscan.scanner.cli.aftercare import list_fragile

    order = command_options.After(images, writing, ScanConfig(**protection).sandbox, report_file)
    list_fragile(model, order, most=most, export=export)
    return ExitCode.NOT_DETECTED


@app.command()
@_exits
def render(report_file: command_options.Report, format_: command_options.AnyFormat = "terminal") -> ExitCode:
    """Write a JSON report in another format to stdout."""
    from backscan.scanner.cli import output

    results = output.read_reports(report_file)
    output.print_text(output.for_stdout(results[0] if len(results) == 1 else results, format_))
    return ExitCode.NOT_DETECTED


@app.command()
@_exits
@spread
def demo(files: command_options.Files) -> ExitCode:
    """Scan two small models that ship with the tool, one backdoored and one not, and compare with the truth."""
    from backscan.scanner.cli import output
    from backscan.scanner.cli.demo import run_demo

    output.check_destinations(files.report, "terminal")
    try:
        with console.progress() as progress:
            shown = run_demo(progress)
    except ScanError as error:  # the models are ours, so nothing about them is the user's mistake
        raise InternalError(f"the models of the demo cannot be scanned: {error}") from error
    output.write_reports(shown.results, files.report)
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


def _configure(preset: str | None, chosen: Mapping[str, Any], budget: str | None = None) -> ScanConfig:
    """The configuration: defaults, then the budget, then the preset, then what was given."""
    config = ScanConfig().with_budget(budget) if budget else ScanConfig()
    config = config.with_preset(preset) if preset else config
    config = replace(config, **chosen)
    config.check()
    return config


def _among(result: ScanResult, trusted: Sequence[ScanResult]) -> ScanResult:
    """A result with where it stands among those of trusted models."""
    from backscan.scanner.inference.pool import among

    record = among(result, trusted)
    lost = (
        f"none of the {len(trusted)} reports of --reference-reports can be compared: they are of this file, without a "
        "p-value, or made with other options"
    )
    is_lost = bool(trusted) and record is None and lost not in result.warnings
    return replace(result, pool=record, warnings=(*result.warnings, lost) if is_lost else result.warnings)


def _deliver(results: Sequence[ScanResult], delivery: command_options.Delivery) -> None:
    from backscan.scanner.cli import output

    output.deliver(results, delivery.report, delivery.format_)


def _interrupted(journal: Path | None) -> ExitCode:
    """Tell how to go on."""
    again = f"{console.command()} --resume"
    hint = f"continue with: {again}" if journal else "use --journal DIR to be able to continue next time"
    say(f"interrupted; {hint}")
    return ExitCode.INTERRUPTED


def _save_pattern(results: Sequence[ScanResult], path: Path | None) -> None:
    """The pattern of the first model that has one."""
    from backscan.scanner.cli import output

    if path is not None and not any(output.save_pattern(result, path) for result in results):
        say(f"no pattern was recovered, so {path.name} was not written")


def _end(results: Sequence[ScanResult], fail_on: str = "any", known: Baseline | None = None) -> ExitCode:
    """The exit code of a run, with what was accepted told on standard error."""
    from backscan.scanner.cli.exit_code import outcome

    ended = outcome(results, fail_on=fail_on, baseline=known)
    for remark in ended.remarks:
        say(f"warning: {remark}")
    return ended.code
