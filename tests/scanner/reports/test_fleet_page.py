"""The page of a fleet: a row for each model, the worst first, each leading to its whole report where that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lxml import html

from backscan.scanner.cli import output
from backscan.scanner.reports import format_of, render
from tests.scanner.reports.examples import detected, hostile, inconclusive, no_verdict, not_detected, with_findings

RESULTS = [not_detected(), inconclusive(), detected(), no_verdict(), with_findings()]


def rows(text: str) -> list[Any]:
    return list(html.fromstring(text).xpath("//table[@id='models']/tbody/tr"))


def cells(row: Any) -> list[str]:
    return [" ".join(each.text_content().split()) for each in row]


def test_every_model_has_a_row_and_the_worst_stand_first() -> None:
    found = [cells(row) for row in rows(render(RESULTS, "fleet"))]
    assert [row[1] for row in found] == [
        *("Backdoor detected", "Backdoor detected", "No verdict", "Inconclusive", "No backdoor detected")
    ]
    assert all(name and why for name, _, _, _, why in found)
    named = next(row for row in found if row[3])
    assert named[3] == "automobile (1) \u2192 truck (9)"


def test_a_row_leads_to_the_report_of_its_own_model() -> None:
    links = [row[0].xpath("./a/@href") for row in rows(render(RESULTS, "fleet", page="all/scan.html"))]
    assert links[0] in (["all/scan.html#m2"], ["all/scan.html#m4"])
    assert sorted(link for each in links for link in each) == [f"all/scan.html#m{number}" for number in range(5)]
    whole = html.fromstring(render(RESULTS, "html"))
    assert all(whole.xpath(f"//*[@id='m{number}']") for number in range(5)), "where the links lead"
    assert not html.fromstring(render(RESULTS, "fleet")).xpath("//a")


def test_pages_that_are_written_together_are_linked(tmp_path: Path) -> None:
    (tmp_path / "pages here").mkdir()
    summary, whole = tmp_path / "all.fleet.html", tmp_path / "pages here" / "java:script.html"
    output.write_reports(RESULTS, [summary, tmp_path / "scan.json", whole])
    links = html.fromstring(summary.read_text(encoding="utf-8")).xpath("//table//a/@href")
    assert links[0].startswith("pages%20here/java%3Ascript.html#m")
    output.write_reports(RESULTS, [summary])
    assert not html.fromstring(summary.read_text(encoding="utf-8")).xpath("//a")


def test_names_and_reasons_are_text() -> None:
    text = render([hostile()], "fleet", page="x.html")
    assert len(html.fromstring(text).xpath("//script")) == 1
    assert "<script>alert" not in text
    assert "\u202e" not in text


def test_the_suffix_chooses_it() -> None:
    assert format_of("scan.fleet.html") == "fleet"
    assert format_of("fleet.html") == "html"
