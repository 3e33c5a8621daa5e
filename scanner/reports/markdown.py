"""A comment for a pull request or a wiki page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from backscan.scanner.reports import fragile
from backscan.scanner.reports.blocks import block_picture
from backscan.scanner.reports.display import Display
from backscan.scanner.reports.extent import route
from backscan.scanner.reports.markup import block, code, plain
from backscan.scanner.reports.sizes import pattern_in_words
from backscan.scanner.reports.summary import Fact, Summary, summarise, why
from backscan.scanner.reports.words import counted, moment, overall_text
from backscan.scanner.results import FoundPattern, ScanResult, Verdict


def render(results: Sequence[ScanResult], display: Display) -> str:
    """One section per model; several models start with a table."""
    del display  # a file
    lines = list(_table(results)) if len(results) > 1 else []
    for result in results:
        lines += _section(result, summarise(result))
    return "\n".join(lines).rstrip("\n") + "\n"


def _table(results: Sequence[ScanResult]) -> Iterator[str]:
    yield f"# backscan: {counted(len(results), 'model')}"
    yield ""
    yield "| model | verdict | classes | calibrated p | why |"
    yield "| --- | --- | --- | --- | --- |"
    for result in results:
        pair = plain(route(result))
        p_value = plain(overall_text(result).removeprefix("= ")) if result.calibrated_p_value is not None else ""
        yield f"| {code(result.model.name)} | {summarise(result).label} | {pair} | {p_value} | {plain(why(result))} |"
    yield ""


def _section(result: ScanResult, summary: Summary) -> Iterator[str]:
    yield f"## {summary.label}: {code(result.model.name)}"
    yield ""
    yield f"**{plain(summary.statement)}**"
    yield ""
    if summary.strength:
        yield from (plain(summary.strength), "")
    yield from (plain(summary.power), "")
    yield from _facts("Evidence", summary.evidence)
    for pattern in result.patterns[:1] if result.verdict is not Verdict.NOT_DETECTED else ():
        yield from _pattern(result, pattern)
    yield from _bullets("Warnings", result.warnings)
    yield from _bullets("Not tested", result.not_tested)
    yield from _bullets("What to do next", summary.next_steps)
    yield "<details><summary>How this was found, and how to repeat it</summary>"
    yield ""
    yield from _facts("Detectors", summary.detectors)
    yield from _facts("Checks", summary.checks)
    yield from _bullets("Tested", summary.tested)
    yield from _fragile(result)
    ended = f", {moment(result).replace('T', ' ')} UTC" if moment(result) else ""
    yield f"sha256 {code(result.model.sha256)}, backscan {code(result.provenance.version)}{ended}"
    yield from ("", block(result.provenance.command), "", "</details>", "")


def _fragile(result: ScanResult) -> Iterator[str]:
    if rows := fragile.rows(result):
        yield from (f"### {fragile.TITLE}", "", f"{fragile.ADVICE}{plain(fragile.left_out(result))}", "")
        yield from (f"| {' | '.join(fragile.COLUMNS)} |", "| --- | --- | --- |")
        yield from (f"| {' | '.join(map(plain, cells))} |" for cells in rows)
        yield ""


def _facts(title: str, facts: Sequence[Fact]) -> Iterator[str]:
    if facts:
        yield from (f"### {title}", "", "| what | found |", "| --- | --- |")
        yield from (f"| {plain(fact.label)} | {plain(fact.text)} |" for fact in facts)
        yield ""


def _bullets(title: str, items: Sequence[str]) -> Iterator[str]:
    if items:
        yield from (f"### {title}", "")
        yield from (f"- {plain(item)}" for item in items)
        yield ""


def _pattern(result: ScanResult, pattern: FoundPattern) -> Iterator[str]:
    picture = block_picture(pattern.values.decode())
    if picture:
        yield from (block(picture.plain), "", f"The pattern, amplified: {pattern_in_words(result, pattern)}.", "")
