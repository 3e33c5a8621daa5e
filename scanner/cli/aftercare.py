"""Commands that come after a verdict: read the report and the images, do it, write what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backscan.scanner.cli import output
from backscan.scanner.cli.console import command, progress
from backscan.scanner.cli.several_models import clean_set
from backscan.scanner.errors import ExitCode, OptionError, UserError
from backscan.scanner.reports.aftercare import Sheet, as_text, form_of, guard_sheet, repair_sheet, screen_sheet
from backscan.scanner.reports.fragile import fragile_sheet
from backscan.scanner.results import Verdict

_CLEARED = (Verdict.NOT_DETECTED.value, None)
"""Verdicts of the second scan that let a check pass; None where nothing had to be repaired."""

if TYPE_CHECKING:
    from backscan.scanner.aftercare.options import RepairOptions
    from backscan.scanner.cli.command_options import After
    from backscan.scanner.images.cleanset import CleanSet
    from backscan.scanner.results import FragileResult, GuardResult, RepairResult, ScanResult, ScreenResult


def repair_model(
    model: Path, out: Path, options: RepairOptions, order: After, *, only_detected: bool = False
) -> RepairResult:
    """Repair a model, and write the reports of it."""
    from backscan.scanner.aftercare.attempt import check_attempt
    from backscan.scanner.aftercare.repair import repair

    _check_files(order, out)
    check_attempt([model, order.report, order.images.data, order.images.labels], out)
    report = None if order.report is None else output.read_report(order.report)
    clean = images_for(model, order, report)
    with progress() as observer:
        result = repair(
            model,
            clean,
            out,
            report=report,
            options=options,
            sandbox=order.sandbox,
            progress=observer,
            command=command(),
            only_detected=only_detected,
        )
    deliver(repair_sheet(result), order.writing.write)
    return result


def exit_code(result: RepairResult, *, loop: bool) -> ExitCode:
    """The exit code of a repair; with `loop` that of a check of what came of it (CONTRACT, Exit codes)."""
    if result.believed or (loop and result.verdict_before == Verdict.NOT_DETECTED.value):
        return ExitCode.NOT_DETECTED if not loop or result.verdict_after in _CLEARED else ExitCode.INCONCLUSIVE
    still = loop and result.verdict_after == Verdict.BACKDOOR_DETECTED.value
    return ExitCode.DETECTED if still else ExitCode.INCONCLUSIVE


def add_guard(model: Path, out: Path, order: After, *, rate: float, enforce: str | None) -> GuardResult:
    """Write a model with a score of a pattern, and the reports of it.

    Raises:
        OptionError: no report or no images.
    """
    from backscan.scanner.aftercare.guarding import guard_model

    _check_files(order, out)
    if order.report is None:
        raise OptionError("expected --report with a recovered pattern, found none: pass --report")
    report = output.read_report(order.report)
    clean = images_for(model, order, report)
    result = guard_model(model, clean, out, report, rate=rate, sandbox=order.sandbox, enforce=enforce)
    deliver(guard_sheet(result), order.writing.write)
    return result


def screen(place: Path, order: After, *, rate: float) -> ScreenResult:
    """List the images that carry the pattern of a report, and write the reports of it.

    Raises:
        OptionError: no clean images were named.
        CleanSetError: images cannot be read.
    """
    from backscan.scanner.aftercare.screening import screen_images
    from backscan.scanner.images.cleanset import CleanSet
    from backscan.scanner.images.folder import loose_pictures

    _check_files(order)
    if order.images.data is None or order.report is None:
        raise OptionError("expected --data with clean images to set the threshold on, found none: pass --data")
    report = output.read_report(order.report)
    clean = CleanSet.load(order.images.data, labels=order.images.labels, sandbox=order.sandbox)
    images = CleanSet.load(place, sandbox=order.sandbox)
    result = screen_images(images, report, clean, rate=rate, names=loose_pictures(place))
    deliver(screen_sheet(result), order.writing.write)
    return result


def list_fragile(model: Path, order: After, *, most: int, export: Path | None) -> FragileResult:
    """List the fragile pairs of a model, write the images to train with, and the reports of it."""
    from backscan.scanner.aftercare.augmentation import check_place
    from backscan.scanner.aftercare.fragile import find_fragile

    _check_files(order)
    report = None if order.report is None else output.read_report(order.report)
    signature = None if report is None else report.model.signature
    check_place(export, None if signature is None else signature.input_shape[0])
    clean = images_for(model, order, report)
    with progress() as observer:
        found = find_fragile(
            model, clean, report=report, most=most, sandbox=order.sandbox, progress=observer, command=command()
        )
    result = found.result
    if export is not None:
        found.augmentation.write(export)
        result = replace(result, num_exported=len(found.augmentation.labels), exported_to=export.name)
    deliver(fragile_sheet(result), order.writing.write)
    return result


def images_for(model: Path, order: After, report: ScanResult | None) -> CleanSet:
    """The images that were named, or those beside the model.

    Raises:
        OptionError: there are none.
    """
    names = None if report is None else report.model.class_names
    clean = clean_set(model, order.images, names, sandbox=order.sandbox)
    if clean is None:
        raise OptionError(f"expected --data with clean images, found none beside {model.name}: pass --data")
    return clean


def _check_files(order: After, *files: Path) -> None:
    """Refuse what could not be written, and what would be written over what is read.

    Args:
        order: Report and images that are read, and reports that are written.
        files: What else is written.
    """
    from backscan.scanner.aftercare.attempt import check_spared

    check_reports(order.writing.write)
    check_spared([order.report, order.images.data, order.images.labels], [*files, *order.writing.write])


def check_reports(files: Sequence[Path]) -> None:
    """Refuse reports that could not be written, before any work is done.

    Raises:
        OptionError: a suffix that no form has.
        UserError: a folder that does not exist.
    """
    for file in files:
        form_of(file)
        if not file.parent.is_dir():
            raise UserError(f"expected a folder to write {file.name} to, found no {file.parent}: make it first")


def deliver(sheet: Sheet, files: Sequence[Path]) -> None:
    """Write the report files, and the text to standard output.

    Raises:
        UserError: a file that cannot be written.
    """
    output.print_text(as_text(sheet))
    for file in files:
        output.write_file(file, form_of(file)(sheet).encode("utf-8", "backslashreplace"))
