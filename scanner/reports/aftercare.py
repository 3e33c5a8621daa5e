"""Reports of what comes after a verdict, as JSON, Markdown, a page, or text: one list of facts in four forms."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from backscan.scanner.errors import OptionError
from backscan.scanner.reports.markup import plain
from backscan.scanner.reports.text import printable
from backscan.scanner.reports.words import counted, number, percent
from backscan.scanner.results import FoundPattern, GuardResult, RepairResult, ScreenResult, Verdict, to_json

_TEST = "no-backdoor-detected-or-repaired"
_MOST_NAMED = 20


class Documented(Protocol):
    """A result that is a JSON document."""

    def to_dict(self) -> dict[str, Any]:
        """The document."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of a report."""

    caption: str
    """What it shows."""
    header: Sequence[str]
    """Names of the columns."""
    rows: Sequence[Sequence[str]]
    """The cells."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a report says, in whichever form."""

    title: str
    """What was done to which file, and how it ended."""
    sentences: Sequence[str]
    """Why."""
    facts: Sequence[tuple[str, str]]
    """What was measured, by name."""
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Further lists by heading; empty ones are left out."""
    document: Documented | None = None
    """The result itself."""
    grids: Sequence[Grid] = ()
    """Tables, after the facts."""
    figures: Sequence[Figure] = ()
    """Pictures, for pages."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing and pictures beside it, with what they show."""

    heading: str
    """What it is about."""
    pattern: FoundPattern
    """What is drawn."""
    pictures: Sequence[tuple[str, str]]
    """Base64 PNG and what it shows."""
    caption: str
    """Below it."""


def repair_sheet(result: RepairResult) -> Sheet:
    """What the report of a repair says."""
    state = "repaired and believed" if result.believed else "repair not believed"
    state = state if result.method != "none" else "nothing repaired"
    facts = [
        ("file before", f"{result.before.name}, sha256 {result.before.sha256}"),
        ("file after", "none" if result.after is None else f"{result.written_to}, sha256 {result.after.sha256}"),
        ("method", result.method),
        ("pattern", _pattern(result)),
        *_measures(result),
        ("scan before", result.verdict_before or "n/a"),
        ("scan after", result.verdict_after or "n/a"),
        ("changed tensors", counted(len(result.tensors), "stored tensor")),
    ]
    return Sheet(
        f"{state}: {result.before.name}",
        result.reasons,
        facts,
        {
            "Tensors with other numbers": _named(result.tensors),
            "Nodes that were changed or added": _named(result.nodes),
            "Reasons of the second scan": result.scan_reasons,
            "Warnings": result.warnings,
        },
        result,
    )


def screen_sheet(result: ScreenResult) -> Sheet:
    """What the report of a look through images says."""
    low, high = result.interval
    note = "; extrapolated: fewer than 3 / rate clean images" if result.extrapolated else ""
    facts = [
        ("pattern", f"class {result.source} to {result.target}, of the file with sha256 {result.model_sha256}"),
        ("images", f"{result.num_images}, of which {len(result.listed)} are listed"),
        ("threshold", f"{_limit(result.threshold)}, set for {percent(result.rate)} false alarms"),
        ("alarms on clean images", f"{result.alarms_on_clean} of {result.num_clean} ({low:.2%} to {high:.2%}){note}"),
    ]
    listed = [f"{each.name}: score {each.score:.3f}" for each in result.listed]
    sentence = f"{counted(len(listed), 'image')} of {result.num_images} carry the pattern"
    return Sheet("images that carry the recovered pattern", (sentence,), facts, {"Listed": listed}, result)


def guard_sheet(result: GuardResult) -> Sheet:
    """What the report of a guard says."""
    facts = [
        ("file before", f"{result.before.name}, sha256 {result.before.sha256}"),
        ("file after", "none" if result.after is None else f"{result.after.name}, sha256 {result.after.sha256}"),
        ("pattern", f"class {result.source} to {result.target}"),
        ("scored", "the pixels" + (f", and {result.tensor}" if result.tensor else "")),
        ("threshold", f"{_limit(result.threshold)}, set for {percent(result.rate)} false alarms"),
        *_measured(result),
    ]
    state = "guarded" if result.after else "not guarded"
    return Sheet(f"{state}: {result.before.name}", result.reasons, facts, {}, result)


def _limit(threshold: float | None) -> str:
    """With as many digits as a comparison with scores needs."""
    return "n/a" if threshold is None else f"{threshold:.6g}"


def _measured(result: GuardResult) -> list[tuple[str, str]]:
    """What the written file does; nothing where there is none."""
    if result.interval is None:
        return []
    low, high = result.interval
    note = "; extrapolated: fewer than 3 / rate clean images" if result.extrapolated else ""
    cost = "not measurable, less than what timings differ by"
    if result.microseconds is not None:
        cost = f"{number(result.microseconds)} µs an image"
    return [
        ("alarms on clean images", f"{result.alarms_on_clean} of {result.num_clean} ({low:.2%} to {high:.2%}){note}"),
        ("caught with the pattern", f"{percent(result.caught)} of {result.num_planted} held-out source images"),
        *_enforced(result),
        ("cost", f"{cost}; the model takes {number(result.microseconds_without)} µs an image"),
    ]


def _enforced(result: GuardResult) -> list[tuple[str, str]]:
    if result.enforce is None:
        return []
    told = f"{percent(result.success_before)} before, {percent(result.success_after)} after"
    return [("enforced", result.enforce), ("source images with the pattern at the target", told)]


def _pattern(result: RepairResult) -> str:
    if result.detector is None:
        return "none was known"
    sources = ", ".join(map(str, result.sources))
    return f"class {result.source} to {result.target}, by {result.detector}; measured on images of class {sources}"


def _measures(result: RepairResult) -> list[tuple[str, str]]:
    measured = result.measures
    if measured is None:
        return []
    beside = f"of {measured.num_images} held-out images, labels {measured.labels}"
    accuracy = f"{percent(measured.accuracy_before)} before, {percent(measured.accuracy_after)} after, {beside}"
    success = "not measured"
    if measured.success_after is not None:
        success = (
            f"{percent(measured.success_before)} before, {percent(measured.success_after)} after, "
            f"{percent(measured.success_without)} without the pattern, of {measured.num_carriers} source images"
        )
    return [("accuracy", accuracy), ("decisions that changed", percent(measured.changed)), ("success", success)]


def _named(names: Sequence[str]) -> Sequence[str]:
    more = len(names) - _MOST_NAMED
    return (*names[:_MOST_NAMED], *([f"and {more} more"] if more > 0 else []))


def as_text(sheet: Sheet) -> str:
    """For a terminal."""
    width = max(len(name) for name, _ in sheet.facts)
    lines = [sheet.title, *(f"  {sentence}" for sentence in sheet.sentences), ""]
    lines += [f"  {name:{width}}  {text}" for name, text in sheet.facts]
    for grid in sheet.grids:
        lines += ["", f"  {grid.caption}", *_columns(grid)]
    for heading, items in sheet.lists.items():
        lines += [f"  {heading}:", *(f"    {item}" for item in items)] if items else []
    return "".join(f"{printable(line)}\n" for line in lines)


def _columns(grid: Grid) -> list[str]:
    """The lines of a table, every column as wide as its widest cell."""
    lines = [grid.header, *grid.rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(grid.header))]
    padded = ([f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)] for line in lines)
    return [f"    {'  '.join(cells)}".rstrip() for cells in padded]


def as_markdown(sheet: Sheet) -> str:
    """For a pull request or a wiki page."""
    lines = [f"## {plain(sheet.title)}", "", *(f"**{plain(each)}**" for each in sheet.sentences), ""]
    lines += [
        "| what | found |",
        "| --- | --- |",
        *(f"| {plain(name)} | {plain(text)} |" for name, text in sheet.facts),
    ]
    for grid in sheet.grids:
        lines += ["", f"### {plain(grid.caption)}", ""]
        lines += [_markdown_row(grid.header), _markdown_row(["---"] * len(grid.header)), *map(_markdown_row, grid.rows)]
    for heading, items in sheet.lists.items():
        lines += ["", f"### {heading}", "", *(f"- {plain(item)}" for item in items)] if items else []
    return "\n".join(lines) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell if cell == '---' else plain(cell) for cell in cells)} |"


def as_page(sheet: Sheet) -> str:
    """One page that needs no network and no script."""
    style = (Path(__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")
    rows = "".join(f'<tr><th scope="row">{_safe(name)}</th><td>{_safe(text)}</td></tr>\n' for name, text in sheet.facts)
    rest = "".join(
        f"<section><h2>{_safe(heading)}</h2><ul>{''.join(f'<li>{_safe(item)}</li>' for item in items)}</ul></section>\n"
        for heading, items in sheet.lists.items()
        if items
    )
    rest += "".join(map(_drawn, sheet.figures))
    reasons = "".join(f"<p>{_safe(sentence)}</p>" for sentence in sheet.sentences)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{_safe(sheet.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"<section><h1>{_safe(sheet.title)}</h1>{reasons}</section>\n"
        f"<section><h2>What was measured</h2><table><tbody>\n{rows}</tbody></table></section>\n"
        f"{''.join(map(_grid, sheet.grids))}{rest}</main>\n</body>\n</html>\n"
    )


def _grid(grid: Grid) -> str:
    """A table of the page, which may be wider than a telephone and then scrolls by itself."""
    head = "".join(f'<th scope="col">{_safe(name)}</th>' for name in grid.header)
    rows = "".join(f"<tr>{''.join(f'<td>{_safe(cell)}</td>' for cell in row)}</tr>\n" for row in grid.rows)
    return (
        f'<section><h2>{_safe(grid.caption)}</h2><div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{rows}</tbody></table></div></section>\n"
    )


def _drawn(figure: Figure) -> str:
    """A figure as part of a page."""
    from backscan.scanner.reports.plots import pattern_picture  # no other form draws

    drawing = pattern_picture(figure.pattern, prefix=f"p{figure.pattern.source}-{figure.pattern.target}-")
    pictures = "".join(
        f'<figure><img src="data:image/png;base64,{html.escape(png)}" alt="{_safe(told)}">'
        f"<figcaption>{_safe(told)}</figcaption></figure>"
        for png, told in figure.pictures
    )
    return (
        f'<section><h2>{_safe(figure.heading)}</h2><div class="pair"><figure class="picture">{drawing}'
        f'<figcaption>{_safe(figure.caption)}</figcaption></figure><div class="examples">{pictures}</div></div>'
        "</section>\n"
    )


def _safe(text: str) -> str:
    return html.escape(printable(text))


def as_json(sheet: Sheet) -> str:
    """The result itself."""
    return to_json(sheet.document.to_dict() if sheet.document else {})


def as_attestation(sheet: Sheet) -> str:
    """An in-toto statement (v1) about a repair, whose subjects are the file before and, if believed, the file after.

    Raises:
        OptionError: the result is of something else.
    """
    result = sheet.document
    if not isinstance(result, RepairResult):
        raise OptionError("expected a repair for a report in .intoto.json, found something else: write .json")
    believed = result.believed or result.verdict_before == Verdict.NOT_DETECTED.value
    outcome = (
        "PASSED" if believed else "FAILED" if result.verdict_after == Verdict.BACKDOOR_DETECTED.value else "WARNED"
    )
    files = [result.before, *([result.after] if result.after and result.believed else [])]
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": printable(file.name), "digest": {"sha256": file.sha256}} for file in files],
        "predicateType": "https://in-toto.io/attestation/test-result/v0.1",
        "predicate": {
            "result": outcome,
            "configuration": [],
            "passedTests": [_TEST] if outcome == "PASSED" else [],
            "warnedTests": [_TEST] if outcome == "WARNED" else [],
            "failedTests": [_TEST] if outcome == "FAILED" else [],
            "backscan": result.to_dict(),
        },
    }
    return to_json(statement)


FORMS: Mapping[str, Callable[[Sheet], str]] = MappingProxyType(
    {".intoto.json": as_attestation, ".json": as_json, ".md": as_markdown, ".html": as_page, ".txt": as_text}
)
"""Form by the suffix of a file."""


def form_of(file: Path) -> Callable[[Sheet], str]:
    """The form of a report file.

    Raises:
        OptionError: another suffix.
    """
    for suffix, form in FORMS.items():  # the longer ending comes first
        if file.name.lower().endswith(suffix):
            return form
    raise OptionError(f"expected --write to end in {', '.join(FORMS)}, found {file.name!r}")
