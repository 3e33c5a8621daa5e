import re

import numpy as np
import pytest

from backscan.scanner.reports import render
from backscan.scanner.reports.blocks import block_picture
from tests.scanner.reports.examples import (
    ALL,
    bare,
    detected,
    hostile,
    inconclusive,
    no_verdict,
    not_detected,
    with_findings,
)
from tests.scanner.reports.golden import check


@pytest.mark.parametrize("example", ALL)
def test_golden(example: str) -> None:
    check(f"{example}.terminal.txt", render(ALL[example](), "terminal"))


def test_golden_of_several_models() -> None:
    check("several.terminal.txt", render([detected(), not_detected(), no_verdict()], "terminal", width=80))


def test_colour_is_an_argument() -> None:
    assert "\x1b[" not in render(detected(), "terminal")
    assert "\x1b[" in render(detected(), "terminal", colour=True)


def test_the_environment_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, coloured = render(detected(), "terminal"), render(detected(), "terminal", colour=True)
    for name, value in {"NO_COLOR": "1", "COLUMNS": "30", "TERM": "dumb", "FORCE_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    assert (plain, coloured) == (render(detected(), "terminal"), render(detected(), "terminal", colour=True))


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("example", ALL)
def test_no_line_is_wider_than_the_terminal(example: str, width: int) -> None:
    assert all(len(line) <= width for line in render(ALL[example](), "terminal", width=width).splitlines())


@pytest.mark.parametrize("example", ALL)
def test_no_verdict_sounds_like_a_clearance(example: str) -> None:
    assert not re.search(r"\b(clean|safe|secure|trustworthy)\b", render(ALL[example](), "terminal"), re.IGNORECASE)


@pytest.mark.parametrize("result", [detected(), not_detected(), inconclusive(), no_verdict(), bare(), with_findings()])
def test_power_and_what_was_not_tested_are_always_said(result: object) -> None:
    text = render(result, "terminal")  # type: ignore[arg-type]
    assert re.search(r"^power ", text, re.MULTILINE)
    assert re.search(r"^not tested ", text, re.MULTILINE)


@pytest.mark.parametrize("colour", [False, True])
def test_hostile_names_do_not_reach_the_terminal(colour: bool) -> None:
    text = re.sub(r"\x1b\[[0-9;]*m", "", render(hostile(), "terminal", colour=colour))  # what rich itself writes
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert "\\x1b]0;owned\\x07" in text


def test_a_single_pixel_stays_visible_in_the_picture() -> None:
    pattern = np.zeros((3, 224, 224), np.float32)
    pattern[1, 100, 7] = -0.25
    lines = block_picture(pattern, columns=32).plain.split("\n")
    assert {len(line) for line in lines} == {32}
    assert sum(line.count("█") for line in lines) == 1
    assert sum(len(line.strip()) for line in lines) == 1


def test_signs_have_colours() -> None:
    pattern = np.array([[[0.5, -0.5], [0.0, 0.0]]], np.float32)
    added, removed = (span.style.color for span in block_picture(pattern, colour=True).spans)
    assert added.triplet.red > added.triplet.blue
    assert removed.triplet.blue > removed.triplet.red


@pytest.mark.parametrize("pattern", [np.zeros((4,)), np.zeros((1, 0, 3)), np.full((1, 2, 2), np.nan)])
def test_what_is_no_image_is_not_drawn(pattern: np.ndarray) -> None:
    assert not block_picture(pattern.astype(np.float32))


def test_a_zero_pattern_is_blank() -> None:
    assert not block_picture(np.zeros((1, 4, 4), np.float32)).plain.strip()
