"""A result a person can read in five seconds on a terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from backscan.scanner.reports.blocks import block_picture
from backscan.scanner.reports.display import Display
from backscan.scanner.reports.sizes import pattern_in_words, place_of
from backscan.scanner.reports.summary import Fact, Summary, summarise, why
from backscan.scanner.reports.text import printable
from backscan.scanner.reports.words import duration, overall_text
from backscan.scanner.results import FoundPattern, ScanResult, Verdict

_STYLES = {
    Verdict.BACKDOOR_DETECTED: "bold white on red",
    Verdict.NOT_DETECTED: "bold white on blue",
    Verdict.INCONCLUSIVE: "bold black on yellow",
    Verdict.NO_VERDICT: "bold black on yellow",
}
_LABEL_WIDTH = 14
_PICTURE_WIDTH = 32


def render(results: Sequence[ScanResult], display: Display) -> str:
    """One block a model; several models start with a table and show a block only where something was found.

    Args:
        results: Scans to show, in the order given.
        display: Width in columns, and whether escape sequences for colours may be written.
    """
    console = _console(display)
    if len(results) > 1:
        console.print(_table(results))
    for result in results:
        if len(results) == 1 or result.verdict is Verdict.BACKDOOR_DETECTED or result.findings:
            _print_result(console, result, display)
    written = console.file
    assert isinstance(written, io.StringIO)  # noqa: S101 - `_console` made it; tells the type checker
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def _console(display: Display) -> Console:
    """A console that takes nothing from the environment."""
    return Console(
        file=io.StringIO(),
        width=display.width,
        force_terminal=display.colour,
        force_jupyter=False,
        color_system="256" if display.colour else None,
        no_color=not display.colour,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
        _environ={},
    )


def _print_result(console: Console, result: ScanResult, display: Display) -> None:
    summary = summarise(result)
    label = Text(f" {summary.label.upper()} ", style=_STYLES[result.verdict])
    console.print(Text.assemble(label, "  ", _plain(result.model.name, "bold"), f"  sha256 {result.model.sha256[:12]}"))
    console.print(_plain(summary.statement, "bold"))
    if summary.strength:
        console.print(_plain(summary.strength))
    console.print()
    for pattern in result.patterns[:1] if result.verdict is not Verdict.NOT_DETECTED else ():
        _print_pattern(console, result, pattern, display)
    console.print(_facts(_lines(result, summary)))


def _lines(result: ScanResult, summary: Summary) -> list[tuple[Fact, str]]:
    """All facts with the style of each."""
    lines = [(fact, "") for fact in (*summary.evidence, *summary.detectors, *summary.checks)]
    lines += [(Fact("warning", warning), "yellow") for warning in result.warnings]
    lines += [(Fact("tested", tested), "dim") for tested in summary.tested]
    lines += [(Fact("not tested", "; ".join(result.not_tested) or "nothing was recorded"), "")]
    lines += [(Fact("power", summary.power.removeprefix("Power: ")), "")]
    lines += [(Fact("next", step), "cyan") for step in summary.next_steps]
    return lines


def _facts(lines: Sequence[tuple[Fact, str]]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=_LABEL_WIDTH)
    table.add_column(overflow="fold")
    previous = ""
    for fact, style in lines:
        table.add_row(_plain("" if fact.label == previous else fact.label, "dim"), _plain(fact.text, style))
        previous = fact.label
    return table


def _print_pattern(console: Console, result: ScanResult, pattern: FoundPattern, display: Display) -> None:
    picture = block_picture(pattern.shown, columns=min(_PICTURE_WIDTH, display.width - 4), colour=display.colour)
    if not picture:
        return
    console.print(Padding(picture, (0, 0, 0, 2)))
    place = place_of(result, pattern.space)
    card = f", what it changes of {result.space.card}" if pattern.picture and result.space else ""
    caption = f"pattern{f' {place}' if place else ''}{card}, amplified here: {pattern_in_words(result, pattern)}"
    console.print(Padding(_plain(caption, "dim"), (0, 0, 1, 2)))


def _table(results: Sequence[ScanResult]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for heading in ("verdict", "model", "why"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "verdict")
    for result in results:
        table.add_row(*map(_plain, _row(result)))
    return table


def _row(result: ScanResult) -> tuple[str, str, str]:
    p_value = f"p {overall_text(result)}" if result.calibrated_p_value is not None else ""
    lasted = duration(sum(result.timings.values())) if result.timings else ""
    told = ", ".join(filter(None, (p_value, lasted)))
    return summarise(result).label, result.model.name, f"{why(result)}{f' ({told})' if told else ''}"


def _plain(text: str, style: str = "") -> Text:
    """Text from anywhere: no markup, no control characters."""
    return Text(printable(text), style=style)
