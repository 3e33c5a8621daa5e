"""The Markdown report, read back by an independent parser."""

import re

import pytest
from lxml import html
from markdown_it import MarkdownIt

from backscan.scanner.reports import render
from backscan.scanner.reports.markup import block, code, plain
from backscan.scanner.results import ScanResult
from tests.scanner.reports.examples import ALL, detected, hostile, no_verdict, not_detected
from tests.scanner.reports.golden import check

PARSER = MarkdownIt("commonmark", {"html": True}).enable("table")


def parsed(text: str) -> html.HtmlElement:
    return html.fragment_fromstring(PARSER.render(text), create_parent="div")


def said(text: str) -> str:
    return " ".join(parsed(text).text_content().split())


@pytest.mark.parametrize("example", ["detected_3", "not_detected", "no_verdict", "with_findings", "hostile"])
def test_golden(example: str) -> None:
    check(f"{example}.md", render(ALL[example](), "markdown"))


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "[x](javascript:alert(1)) ![y](http://evil.example)",
        "# heading\n- list\n> quote",
        "`code` *bold* _it_ ~~gone~~ $x^2$ a|b",
        "- dash",
        "1. one",
        "0.1.0",
        "&lt; &amp;",
        "back\\slash",
        "@everyone see http://evil.example and www.evil.example",
        "",
    ],
)
def test_plain_shows_exactly_the_text(text: str) -> None:
    line = f"{plain(text)}"
    assert said(line) == " ".join(text.replace("\n", "\\n").split())
    assert {each.tag for each in parsed(line).iter()} <= {"div", "p", "code"}


@pytest.mark.parametrize("text", ["a`b", "``", "`", " `x` ", "a b", "line\nbreak"])
def test_code_shows_exactly_the_text(text: str) -> None:
    (span,) = parsed(code(text)).iter("code")
    assert span.text.strip() == text.replace("\n", "\\n").strip()


def test_a_name_of_no_characters_is_said_so() -> None:
    assert said(code("")) == "(no name)"


def test_a_block_cannot_be_left() -> None:
    (shown,) = parsed(block("```\nescaped\n````\n# no heading")).iter("code")
    assert shown.text == "```\nescaped\n````\n# no heading\n"


def test_mentions_and_links_are_broken_up() -> None:
    text = render(hostile(), "markdown")
    assert not re.search(r"(?<!>)@\w", text)
    outside_code = re.sub(r"`+[^`]*`+", "", text)
    assert not re.search(r"https?://|www\.", outside_code)


@pytest.mark.parametrize("result", [detected(3), hostile(), no_verdict()])
def test_only_our_markup_remains(result: ScanResult) -> None:
    tags = {each.tag for each in parsed(render(result, "markdown")).iter() if isinstance(each.tag, str)}
    allowed = "div h2 h3 p strong table thead tbody tr th td ul li code pre details summary"
    assert tags <= set(allowed.split())


def test_several_models_start_with_a_table() -> None:
    rows = parsed(render([detected(), not_detected(), no_verdict()], "markdown")).xpath("(//table)[1]/tbody/tr")
    assert [row.xpath("td[2]")[0].text for row in rows] == ["Backdoor detected", "No backdoor detected", "No verdict"]
