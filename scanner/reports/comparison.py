"""The report of a comparison, as `reports.aftercare` writes what comes after a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backscan.scanner.reports.aftercare import Grid, Sheet
from backscan.scanner.reports.words import counted, number, percent
from backscan.scanner.results import ComparisonOutcome

if TYPE_CHECKING:
    from backscan.scanner.results import ComparedModel, ComparedPair, ComparedSpace, ComparisonResult

_TITLES = {
    ComparisonOutcome.BACKDOOR_DETECTED: "a backdoor is detected",
    ComparisonOutcome.NO_VERDICT: "no comparison",
    ComparisonOutcome.NEW_SHORTCUT: "a new shortcut",
    ComparisonOutcome.INCONCLUSIVE: "inconclusive",
    ComparisonOutcome.NO_NEW_SHORTCUT: "no new shortcut",
}
_MOST_ROWS = 20
_NOTE = (
    "a shortcut is a pair whose pattern shrank by more than those of the other pairs and than the choice of images "
    "explain; it may be a backdoor or an ordinary change of training, so look at what the second report shows of it"
)


def comparison_sheet(result: ComparisonResult) -> Sheet:
    """What the report of a comparison says."""
    sentences = (*result.reasons, *([_NOTE] if result.shortcuts else []))
    facts = [
        *_model("before", result.before),
        *_model("after", result.after),
        ("threshold", f"p at most {result.significance:g}, corrected for all pairs and spaces"),
        *((f"pairs of {space.detector}", _of_space(space)) for space in result.spaces),
    ]
    return Sheet(
        f"{_TITLES[result.outcome]}: {result.before.name} against {result.after.name}",
        sentences,
        facts,
        {"Warnings": result.warnings},
        result,
        tuple(_grid(space) for space in result.spaces),
    )


def _model(side: str, model: ComparedModel) -> list[tuple[str, str]]:
    p_value = "none" if model.p_value is None else number(model.p_value)
    verdict = f"{model.verdict}, p {p_value}, clean accuracy {percent(model.clean_accuracy)}"
    return [(f"file {side}", f"{model.name}, sha256 {model.sha256}"), (f"scan {side}", verdict)]


def _of_space(space: ComparedSpace) -> str:
    new = sum(pair.is_new for pair in space.pairs)
    left = f", {len(space.not_compared)} not compared" if space.not_compared else ""
    return (
        f"{len(space.pairs)} compared{left}; sizes as a whole {number(space.median_ratio)} times those before; "
        f"{counted(new, 'new shortcut')}"
    )


def _grid(space: ComparedSpace) -> Grid:
    shown = space.pairs[:_MOST_ROWS]
    count = f"the {len(shown)} of {len(space.pairs)} pairs" if len(shown) < len(space.pairs) else "pairs"
    return Grid(
        f"Detector {space.detector}: {count} that became easiest",
        ("source", "target", "size before", "size after", "ratio to the others", "p", "new shortcut"),
        tuple(_row(pair) for pair in shown),
    )


def _row(pair: ComparedPair) -> tuple[str, ...]:
    return (
        str(pair.source),
        str(pair.target),
        number(pair.size_before),
        number(pair.size_after),
        number(pair.ratio),
        number(pair.p_value),
        "yes" if pair.is_new else "no",
    )
