"""Where reports come from and go to: files, standard output, and the pattern as a picture or an array."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from backscan.scanner.errors import OptionError, ReportError, UserError
from backscan.scanner.reports import RENDERERS, format_of, render
from backscan.scanner.store.files import read_text, why_unreadable
from backscan.scanner.store.reports import parse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from backscan.scanner.results import ScanResult

_WIDEST = 100  # longer lines are hard to read
STDOUT_FORMATS = ("terminal", "json")
PATTERN_SUFFIXES = (".npy", ".png")


def read_reports(path: Path) -> tuple[ScanResult, ...]:
    """The scans in a JSON report, of one model or of several.

    Raises:
        ReportError: the file cannot be read or is no report.
    """
    try:
        return parse(read_text(path), name=path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(
            f"expected a JSON report at {path}, found: {why_unreadable(error)}; pass the file that "
            "`--report FILE.json` wrote"
        ) from error


def read_report(path: Path) -> ScanResult:
    """The scan in a JSON report of one model.

    Raises:
        ReportError: the file cannot be read, is no report, or holds several models.
    """
    results = read_reports(path)
    if len(results) != 1:
        raise ReportError(
            f"expected the report of one model in {path.name}, found {len(results)}: scan the model alone"
        )
    return results[0]


def read_pool(folder: Path | None) -> tuple[ScanResult, ...]:
    """The scans in all JSON reports of a folder, in order of their files; none without a folder.

    Raises:
        ReportError: it is no folder, has no JSON file, or one of its files is no report.
    """
    if folder is None:
        return ()
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not files:
        found = "a folder without one" if folder.is_dir() else "no folder"
        raise ReportError(
            f"expected a folder of JSON reports for --reference-reports at {folder}, found {found}: scan models that "
            "you trust with `scanner check MODEL ... --report FOLDER/NAME.json`"
        )
    return tuple(result for path in files for result in read_reports(path))


def check_destinations(files: Sequence[Path], format_: str, pattern: Path | None = None) -> None:
    """Refuse what could not be written, before hours are spent on what is to be written there.

    Raises:
        OptionError: an unknown suffix or format.
        UserError: a folder that does not exist.
    """
    if format_ not in STDOUT_FORMATS:
        hint = ": write other formats to a file, --report FILE.html" if format_ in RENDERERS else ""
        raise OptionError(f"expected --format to be {' or '.join(STDOUT_FORMATS)}, found {format_!r}{hint}")
    for file in files:
        format_of(file)
    if pattern is not None and pattern.suffix.lower() not in PATTERN_SUFFIXES:
        raise OptionError(f"expected --save-pattern to end in {' or '.join(PATTERN_SUFFIXES)}, found {pattern.name!r}")
    for file in (*files, *([pattern] if pattern else [])):
        if str(file) != "-" and not file.parent.is_dir():
            raise UserError(f"expected a folder to write {file.name} to, found no {file.parent}: make it first")


def deliver(results: Sequence[ScanResult], files: Sequence[Path], format_: str) -> None:
    """Write the report files, and the result to standard output unless a report goes there.

    Raises:
        UserError: a file that cannot be written.
    """
    try:
        write_reports(results, files)
    finally:  # hours of work are not lost by a file that cannot be written
        if "-" not in map(str, files):
            print_text(for_stdout(_shown(results), format_))


def write_reports(results: Sequence[ScanResult], files: Sequence[Path]) -> None:
    """Write the report files, each in the format of its suffix; `-` is standard output.

    Raises:
        UserError: a file that cannot be written, once all others are.
    """
    failures = []
    for file in files:
        text = render(_shown(results), format_of(file), page=_page_beside(file, files))
        if str(file) == "-":
            print_text(text)
            continue
        try:
            write_file(file, text.encode("utf-8", "backslashreplace"))
        except UserError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def _page_beside(file: Path, files: Sequence[Path]) -> str:
    """The page with whole reports that is written in the same run, as a link from this file; empty without one."""
    pages = [each for each in files if str(each) != "-" and format_of(each) == "html"]
    if not pages or str(file) == "-":
        return ""
    return quote(os.path.relpath(pages[0].absolute(), file.absolute().parent).replace(os.sep, "/"))


def _shown(results: Sequence[ScanResult]) -> ScanResult | Sequence[ScanResult]:
    """One scan for itself, several together."""
    return results[0] if len(results) == 1 else results


def for_stdout(shown: ScanResult | Sequence[ScanResult], format_: str) -> str:
    """A report as standard output takes it: its width, and colours only on a terminal."""
    from rich.console import Console

    console = Console()
    return render(
        shown,
        format_,
        width=min(console.width, _WIDEST),
        colour=console.is_terminal and not console.no_color,
    )


def print_text(text: str) -> None:
    """Write to standard output, whatever characters it takes.

    Raises:
        UserError: it is closed, or a full disk.
    """
    if sys.stdout is None:  # closed before the start
        raise UserError("expected a standard output for the result, found none: open it or pass --report")
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would fail again when Python ends.
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        raise UserError(
            f"expected to write the result to standard output, found: {error.strerror}; send it elsewhere"
        ) from error


def save_pattern(result: ScanResult, path: Path) -> bool:
    """Write the recovered pattern as float32 array (`.npy`) or amplified picture (`.png`).

    The picture of a pattern on features is the mean of its channels, that of one that changes images otherwise than by
    adding (`--space`) what it changes of a card.

    Returns:
        False if the scan recovered none.

    Raises:
        UserError: the file cannot be written, or the pattern is no image and cannot be a picture.
    """
    import io

    import numpy as np

    if not result.patterns:
        return False
    values = result.patterns[0].values.decode()
    written = io.BytesIO()
    if path.suffix.lower() == ".npy":
        np.save(written, values, allow_pickle=False)
    else:
        written.write(_picture(result.patterns[0].shown))
    write_file(path, written.getvalue())
    return True


def _picture(values: NDArray[np.float32]) -> bytes:
    """The pattern [C, H, W] as PNG: grey is no change, the largest change is black or full light."""
    from backscan.scanner.images.png import png

    if values.ndim != 3:
        raise UserError(
            f"expected a pattern of rows and columns for a picture, found shape {list(values.shape)}: save a .npy"
        )
    pattern = values.astype(float)
    shown = pattern if len(pattern) in (1, 3) else pattern.mean(axis=0, keepdims=True)
    return png(0.5 + 0.5 * shown / (abs(shown).max() or 1.0))


def write_file(file: Path, content: bytes) -> None:
    """Write a file.

    Raises:
        UserError: it cannot be written.
    """
    try:
        file.write_bytes(content)
    except OSError as error:
        raise UserError(f"expected a place to write {file}, found: {error.strerror}; name another one") from error
