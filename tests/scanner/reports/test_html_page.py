"""The page as text: what it says, what it must never contain. How it behaves is in test_browser.py."""

import re
from dataclasses import replace

import pytest
from lxml import html

from backscan.scanner.reports import html_tables, render
from backscan.scanner.results import PairStatus, ScanResult, TargetResult, Verdict
from tests.scanner.reports.examples import ALL, bare, detected, hostile, inconclusive, no_verdict, not_detected
from tests.scanner.reports.golden import check


def page(*results: ScanResult) -> html.HtmlElement:
    return html.document_fromstring(render(list(results), "html").encode())


def text_of(element: html.HtmlElement) -> str:
    return " ".join(element.text_content().split())


def test_golden() -> None:
    """Figures, style and script are left out: they have their own tests and change with their libraries."""
    text = render(ALL["detected_3"](), "html")
    for tag in ("svg", "style", "script"):
        text = re.sub(rf"(<{tag}\b)(?![^>]*application/json)[^>]*>.*?(</{tag}>)", r"\1>\2", text, flags=re.DOTALL)
    check("detected_3.html", re.sub(r"script-src '[^']*'", "script-src ''", text))


@pytest.mark.parametrize("example", ALL)
def test_the_verdict_stands_on_top(example: str) -> None:
    document = page(ALL[example]())
    (heading,) = document.xpath("//h1")
    label = {"b": "Backdoor detected", "n": "No", "i": "Inconclusive"}[ALL[example]().verdict.value[0]]
    assert text_of(heading).startswith(label)
    sections = [text_of(each) for each in document.xpath("//h2")]
    assert {"What to do next", "What was tested", "What was not tested", "Repeat this scan"} <= set(sections)


def test_everything_of_a_detection_is_there() -> None:
    result = detected()
    document = page(result)
    said = text_of(document)
    assert "calibrated <= 0.002 (<= 0.001 x 2 tests, 999 draws), published = 2.1e-13" in said
    assert "L2 0.256" in said
    assert len(document.xpath("//div[@class='before-after']/img")) == 8
    assert "decided as automobile (1), with the pattern as truck (9)" in said
    assert len(document.xpath("//table[@role='grid']//td[@data-pair]")) == 90
    assert len(document.xpath("//svg")) == 4
    assert "scanner check resnet20.onnx --data images.npz" in said
    for heading in ("Collateral damage", "Detectors", "What had to hold first", "Warnings"):
        assert heading in said


def test_pairs_that_did_not_arrive_are_marked() -> None:
    document = page(inconclusive())
    limited = document.xpath("//td[contains(@class, 'limit')]")
    void = document.xpath("//td[contains(@class, 'void')]")
    assert limited
    assert void
    assert all(each.text.startswith(">") for each in limited)


@pytest.mark.parametrize("example", ALL)
def test_nothing_is_fetched_and_only_our_script_runs(example: str) -> None:
    document = page(ALL[example]())
    for attribute in ("src", "href", "{http://www.w3.org/1999/xlink}href", "xlink:href", "action", "srcset"):
        for each in document.xpath("//*"):
            value = each.get(attribute)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), value
    assert not re.search(r"url\((?!#)", render(ALL[example](), "html"))
    executable = [each for each in document.xpath("//script") if each.get("type") != "application/json"]
    assert len(executable) == 1
    assert not [name for each in document.xpath("//*") for name in each.attrib if name.startswith("on")]


@pytest.mark.parametrize("example", ALL)
def test_ids_are_unique_and_references_resolve(example: str) -> None:
    document = page(ALL[example](), detected(3))
    ids = document.xpath("//@id")
    assert len(ids) == len(set(ids))
    named = {part for each in document.xpath("//@aria-labelledby | //@aria-describedby") for part in each.split()}
    links = {each.removeprefix("#") for each in document.xpath("//a/@href")}
    assert named | links <= set(ids)


def test_hostile_names_are_text() -> None:
    document = page(hostile())
    said = text_of(document)
    assert '<script>alert("class")</script> (0)' in said
    assert "\\u202ereversed\\x00" in said
    assert "{{7*7}}${7*7}" in said
    assert not document.xpath("//b | //img[@onerror] | //svg[@onload]")


def test_every_picture_has_words() -> None:
    document = page(detected())
    assert all(each.get("alt") for each in document.xpath("//img"))
    assert all(each.getparent().get("aria-label") for each in document.xpath("//svg"))


def test_many_classes_make_a_compact_table() -> None:
    assert "compact" in page(detected(43)).xpath("//table[@role='grid']/@class")[0]
    assert "compact" not in page(detected(10)).xpath("//table[@role='grid']/@class")[0]


def test_several_models_start_with_a_table() -> None:
    document = page(detected(), not_detected(), no_verdict())
    (heading,) = document.xpath("//h1")
    assert text_of(heading) == "3 models"
    assert [text_of(each) for each in document.xpath("//main/section[1]//tbody//td[1]")] == [
        "Backdoor detected",
        "No backdoor detected",
        "No verdict",
    ]


def test_a_pattern_that_is_no_image_is_told_in_words() -> None:
    result = detected()
    features = replace(result.patterns[0], space="conv1_out", values=replace(result.patterns[0].values, shape=(3072,)))
    said = text_of(page(replace(result, patterns=(features,))))
    assert "acts inside the model and cannot be drawn" in said
    assert "conv1_out" not in said


def headings(*results: ScanResult) -> list[str]:
    return [text_of(each).partition(",")[0].partition(":")[0] for each in page(*results).xpath("//h1 | //h2")]


def test_what_was_found_stands_first_and_what_was_not_does_not() -> None:
    assert headings(detected())[1:4] == ["Recovered pattern", "Warnings", "What to do next"]
    assert headings(replace(detected(), verdict=Verdict.NOT_DETECTED))[1:3] == ["Warnings", "What to do next"]


def test_the_table_that_the_verdict_rests_on_stands_alone() -> None:
    inside = replace(detected().detectors[0], detector="features", space="conv1", source=2, target=3)
    pairs = tuple(replace(pair, detector="features") for pair in detected().pairs)
    both = replace(detected(), detectors=(inside, *detected().detectors), deciding=1, pairs=pairs + detected().pairs)
    document = page(both)
    (shown,) = [each for each in document.xpath("//table[@role='grid']") if not each.xpath("ancestor::details")]
    assert shown.xpath(".//td[contains(@class, 'found')]/@data-pair") == ["1-9"]
    assert "on the image: the verdict rests on this" in text_of(document)
    (folded,) = document.xpath("//details//table[@role='grid']")
    assert folded.xpath(".//td[contains(@class, 'found')]/@data-pair") == ["2-3"]
    assert "conv1" not in " ".join(text_of(each) for each in document.xpath("//section[not(.//details)]//h2"))


def test_every_cell_of_a_card_names_its_column() -> None:
    document = page(detected(), not_detected())
    cells = document.xpath("//table[@class='cards']//tbody//td")
    assert cells
    assert all(each.get("data-label") for each in cells)


def test_options_are_not_broken_and_stay_text() -> None:
    warned = replace(detected(3), warnings=("pass --preprocess <b>now</b>",))
    document = page(warned)
    assert "--preprocess" in [text_of(each) for each in document.xpath("//*[@class='option']")]
    assert "pass --preprocess <b>now</b>" in text_of(document)


def test_a_page_is_dated_and_has_a_glossary() -> None:
    assert "scanned 2026-01-02 03:04:05 UTC" in text_of(page(detected()).xpath("//header")[0])
    later = replace(not_detected(), finished="2026-01-02T04:00:00Z")
    assert "2026-01-02 03:04:05 to 2026-01-02 04:00:00 UTC" in text_of(page(later, detected()).xpath("//header")[0])
    assert "held-out images" in [text_of(each) for each in page(detected()).xpath("//dt")]


def test_a_scan_without_images_has_no_table_of_sizes() -> None:
    assert not page(bare()).xpath("//table[@role='grid']")


def test_a_scan_without_a_command_says_so() -> None:
    alone = replace(detected(3), provenance=replace(detected(3).provenance, command=""))
    document = page(alone)
    assert not document.xpath("//pre")
    assert "started by a program" in text_of(document)


def test_of_very_many_targets_those_that_stand_out_are_listed() -> None:
    found = not_detected()
    conclusion = replace(found.detectors[0], detector="reach", statistic="target-reach", source=None, target=77)
    targets = tuple(
        TargetResult("reach", target, PairStatus.REACHED, value=float(target % 90), rate=None, steps=0, nearness=-1.0)
        for target in range(1000)
    )
    [table] = html_tables.targets(replace(found, detectors=(conclusion,), targets=targets))
    assert table["columns"] == ["Target", "By windows", "In the last layer", "Search"]
    assert table["rows"][0]["chosen"]
    assert [row["cells"][1] for row in table["rows"][1:3]] == ["89", "89"]
    assert len(table["rows"]) + table["others"] == 1000
    assert len(table["rows"]) < 50
