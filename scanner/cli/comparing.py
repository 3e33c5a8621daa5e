"""`scanner compare`: two models, or their reports, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from backscan.scanner.aftercare.attempt import check_spared
from backscan.scanner.aftercare.comparing import check_alike, compare
from backscan.scanner.choices import options_of
from backscan.scanner.cli import output, several_models
from backscan.scanner.cli.aftercare import check_reports, deliver
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import ExitCode, OptionError, UserError
from backscan.scanner.pipeline.heads import ALL
from backscan.scanner.reports.comparison import comparison_sheet
from backscan.scanner.results import ComparisonOutcome

if TYPE_CHECKING:
    from backscan.scanner.cli.command_options import Images, Keeping, Writing
    from backscan.scanner.results import ComparisonResult, ScanResult

CODES: Mapping[ComparisonOutcome, ExitCode] = MappingProxyType(
    {
        ComparisonOutcome.BACKDOOR_DETECTED: ExitCode.DETECTED,
        ComparisonOutcome.NO_VERDICT: ExitCode.NO_VERDICT,
        ComparisonOutcome.NEW_SHORTCUT: ExitCode.INCONCLUSIVE,
        ComparisonOutcome.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
        ComparisonOutcome.NO_NEW_SHORTCUT: ExitCode.NOT_DETECTED,
    }
)
"""Exit code of a comparison (CONTRACT, Exit codes)."""
_KEPT = ("{side}.json", "{side}.html")


@dataclass(frozen=True, slots=True)
class Both:
    """The two sides of a comparison: ONNX files, or JSON reports of them."""

    before: Path
    """First."""
    after: Path
    """Second."""

    @property
    def paths(self) -> tuple[Path, Path]:
        """Both, in order."""
        return self.before, self.after

    @property
    def models(self) -> tuple[Path, ...]:
        """Those that are to be scanned."""
        return tuple(path for path in self.paths if not is_report(path))


def is_report(path: Path) -> bool:
    """Whether a side is a report that exists already."""
    return path.suffix.lower() == ".json"


def asked(images: Images, keeping: Keeping, chosen: Mapping[str, Any], preset: str | None) -> tuple[str, ...]:
    """Options of scans that were given another value than their default."""
    groups: Sequence[tuple[Any, Mapping[str, Any]]] = (
        (type(images), asdict(images)),
        (type(keeping), asdict(keeping)),
        (ScanConfig, chosen),
    )
    given = [
        each.spelled
        for kind, values in groups
        for name, each in options_of(kind).items()
        if values.get(name, each.default) != each.default
    ]
    return (*(["--preset"] if preset else []), *given)


def compare_both(
    both: Both, order: several_models.Order, writing: Writing, *, keep: Path | None = None, asked: Sequence[str] = ()
) -> ComparisonResult:
    """Scan what is not a report yet, compare, and write the reports.

    Args:
        both: The two sides.
        order: How models are scanned.
        writing: Where the report of the comparison goes.
        keep: Folder for the reports of the two scans.
        asked: Options of scans that were given: without a model to scan they would be ignored.

    Raises:
        UserError: paths that cannot be read or written, or options that do not fit together.
    """
    _check(both, order, writing, keep)
    if asked and not both.models:
        raise OptionError(
            f"expected no options of scans with two reports, found {', '.join(asked)}: pass models to scan them"
        )
    before, after = _results(both, order)
    if keep is not None:
        _keep(before, after, keep)
    result = compare(before, after)
    deliver(comparison_sheet(result), writing.write)
    return result


def _check(both: Both, order: several_models.Order, writing: Writing, keep: Path | None) -> None:
    check_reports(writing.write)
    kept = [keep / name.format(side=side) for name in _KEPT for side in ("before", "after")] if keep else []
    check_spared([*both.paths, order.images.data, order.images.labels], [*writing.write, *kept])
    if keep is not None and not (keep.is_dir() or (keep.parent.is_dir() and not keep.exists())):
        raise UserError(f"expected a folder for --scans, in one that exists, found {keep}: name another")
    if order.config.output_name == ALL:
        raise OptionError("expected one output to compare, found --output-name all: name it")
    for path in both.paths:
        if path.is_dir() or not path.exists():
            found = "a folder" if path.is_dir() else "nothing"
            raise UserError(f"expected a model or a JSON report at {path}, found {found}: check the path")
    if keep is not None:
        keep.mkdir(exist_ok=True)


def _results(both: Both, order: several_models.Order) -> tuple[ScanResult, ScanResult]:
    """The scans of both; reports are read, and held against the options, before anything is scanned."""
    read = {path: output.read_report(path) for path in both.paths if is_report(path)}
    for report in read.values() if both.models else ():
        check_alike(report.config, order.config.to_dict())
    made = several_models.scanned(both.models, order) if both.models else iter(())
    before, after = (read[path] if is_report(path) else next(made) for path in both.paths)
    return before, after


def _keep(before: ScanResult, after: ScanResult, folder: Path) -> None:
    for side, result in (("before", before), ("after", after)):
        output.write_reports([result], [folder / name.format(side=side) for name in _KEPT])
