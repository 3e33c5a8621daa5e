"""Fragile pairs in words: the table of a scan's report, and the report of the command that draws them."""

from __future__ import annotations

from backscan.scanner.reports.aftercare import Figure, Sheet
from backscan.scanner.reports.words import class_name, counted, number, pair_name, percent
from backscan.scanner.results import (
    FragilePair,
    FragileResult,
    ModelRecord,
    PairResult,
    ScanResult,
    Verdict,
    commonality_of,
    fragile_pairs,
)

TITLE = "Fragile pairs: what training could make harder to confuse"
"""Heading in the report of a scan."""
ADVICE = (
    "Every model has pairs that the smallest common pattern confuses; these are the first of this one, by size and by "
    "commonality, and no sign of a backdoor by themselves. `scanner fragile MODEL --data DATA --report REPORT.json` "
    "draws their patterns and the images that flip first, and writes images to train with."
)
"""What they are and what to do."""
COLUMNS = ("Pair", "Size", "Commonality")
"""What is told of each."""
_MOST_LISTED = 5


def rows(result: ScanResult) -> list[tuple[str, str, str]]:
    """The most fragile pairs of a scan, most fragile first, as cells; none where nothing was searched on images."""
    return [_cells(result.model, pair) for pair in fragile_pairs(result)[:_MOST_LISTED]]


def left_out(result: ScanResult) -> str:
    """Which pairs are not among them, in a sentence; empty where all are."""
    if result.verdict is not Verdict.BACKDOOR_DETECTED or result.target is None:
        return ""
    return f" Pairs towards {class_name(result.model, result.target)} are left out: theirs may be planted."


def _cells(names: ModelRecord, pair: PairResult) -> tuple[str, str, str]:
    return pair_name(names, pair.source, pair.target), number(pair.size), number(commonality_of(pair))


def fragile_sheet(result: FragileResult) -> Sheet:
    """What the report of fragile pairs says."""
    names = result.model
    facts = [
        ("file", f"{result.model.name}, sha256 {result.model.sha256}"),
        ("pairs", counted(len(result.pairs), "pair")),
        (
            "patterns",
            f"{result.num_searched} searched now, {len(result.pairs) - result.num_searched} known from the scan",
        ),
        ("goal", f"{percent(result.goal_rate)} of the source images at the target"),
    ]
    if result.left_out is not None:
        facts.append(("left out", f"pairs towards class {class_name(names, result.left_out)}, which the scan detects"))
    if result.num_exported is not None:
        facts.append(("images to train with", f"{result.num_exported} in {result.exported_to}"))
    rows = [f"{rank}. {_fragile(each, names)}" for rank, each in enumerate(result.pairs, start=1)]
    figures = tuple(_figure(each, names, rank) for rank, each in enumerate(result.pairs, start=1))
    title = f"fragile pairs: {result.model.name}"
    return Sheet(title, result.reasons, facts, {"Pairs, most fragile first": rows}, result, figures=figures)


def _fragile(pair: FragilePair, names: ModelRecord) -> str:
    """One pair in a line."""
    found = pair.pattern
    held_out = f"{percent(pair.rate_held_out)} of {pair.num_held_out} held-out images" if pair.num_held_out else "none"
    return (
        f"{pair_name(names, found.source, found.target)}: size {number(found.size)}, commonality "
        f"{number(pair.commonality)}; moves {percent(pair.rate)} of the searched images, {held_out}"
        f"{_flips(pair)}"
    )


def _flips(pair: FragilePair) -> str:
    return f"; the first flips at {percent(pair.multiples[0])} of the pattern" if pair.multiples else ""


def _figure(pair: FragilePair, names: ModelRecord, rank: int) -> Figure:
    """The pattern, and the images that flip first."""
    pictures = []
    for example, multiple in zip(pair.examples, pair.multiples, strict=True):
        before, after = class_name(names, example.decision_before), class_name(names, example.decision_after)
        pictures.append((example.before_png, f"decided as {before}"))
        pictures.append((example.after_png, f"with the pattern as {after}; flips at {percent(multiple)} of it"))
    found = pair.pattern
    return Figure(
        f"{rank}. {pair_name(names, found.source, found.target)}",
        found,
        pictures,
        "The pattern, amplified: red adds light, blue takes it away; held-out images that flip first, before, after.",
    )
