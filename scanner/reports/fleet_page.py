"""One page with a row for each of many models, the worst first; sorted and filtered where it is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backscan.scanner.reports.display import Display
from backscan.scanner.reports.extent import route
from backscan.scanner.reports.page import dated, filled
from backscan.scanner.reports.summary import LABELS, why
from backscan.scanner.reports.words import counted, overall_text
from backscan.scanner.results import ScanResult, Verdict

_WORST_FIRST = (Verdict.BACKDOOR_DETECTED, Verdict.NO_VERDICT, Verdict.INCONCLUSIVE, Verdict.NOT_DETECTED)


def render(results: Sequence[ScanResult], display: Display) -> str:
    """The page; nothing in it needs the network, no name can become markup, and without scripts it is a plain table."""
    rows = [_row(result, index, display.page) for index, result in enumerate(results)]
    rows.sort(key=lambda row: (row["rank"], row["p_value"] if row["p_value"] is not None else 2.0, row["number"]))
    values = {
        "title": f"backscan: {counted(len(results), 'model')}",
        "heading": counted(len(results), "model"),
        "version": results[0].provenance.version if results else "",
        "dated": dated(results),
        "verdicts": _verdicts(results),
        "rows": rows,
    }
    return filled("fleet.html", "fleet.js", values)


def _row(result: ScanResult, number: int, page: str) -> dict[str, Any]:
    """What the table shows of one scan."""
    return {
        "number": number,
        "name": result.model.name,
        "link": f"{page}#m{number}" if page else "",
        "verdict": result.verdict.value,
        "label": LABELS[result.verdict],
        "rank": _WORST_FIRST.index(result.verdict),
        "p_value": result.calibrated_p_value,
        "p": overall_text(result).removeprefix("= ") if result.calibrated_p_value is not None else "",
        "pair": route(result),
        "why": why(result),
        "not_tested": result.not_tested,
    }


def _verdicts(results: Sequence[ScanResult]) -> list[dict[str, Any]]:
    """The verdicts that there are, the worst first, with how many models have each."""
    counts = [(verdict, sum(result.verdict is verdict for result in results)) for verdict in _WORST_FIRST]
    return [{"value": each.value, "label": LABELS[each], "count": count} for each, count in counts if count]
