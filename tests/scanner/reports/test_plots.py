"""Figures by what they hold: colours of the page, unique ids, all curves, and equal bytes in any process."""

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from backscan.scanner.reports import plots
from backscan.scanner.results import find_pair
from tests.scanner.reports.examples import detected, not_detected

FIGURES = {
    "histogram": lambda: plots.histogram(detected().detectors[0], prefix="a-"),
    "curves": lambda: plots.curves(
        detected().pairs, find_pair(detected().pairs, ("pairwise", 1, 9)), goal=0.8, prefix="a-"
    ),
    "pattern": lambda: plots.pattern_picture(detected().patterns[0], prefix="a-"),
}


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_is_one_element_of_the_page(figure: str) -> None:
    svg = FIGURES[figure]()
    assert svg.startswith("<svg")
    assert svg.rstrip().endswith("</svg>")
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert all(each.startswith("a-") for each in re.findall(r'\bid="([^"]*)"', svg))


@pytest.mark.parametrize("figure", FIGURES)
def test_lines_and_text_take_the_colours_of_the_page(figure: str) -> None:
    drawn = set(re.findall(r"(?:fill|stroke): ?(#[0-9a-f]{6})", FIGURES[figure]()))
    assert drawn == set()


def test_a_figure_is_the_same_in_another_process() -> None:
    program = (
        "import hashlib; from tests.scanner.reports.test_plots import FIGURES\n"
        "print(hashlib.sha256(''.join(make() for make in FIGURES.values()).encode()).hexdigest())"
    )
    here = hashlib.sha256("".join(make() for make in FIGURES.values()).encode()).hexdigest()
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == here


def test_every_pair_has_its_curve() -> None:
    svg = FIGURES["curves"]()
    assert len(re.findall(r'id="a-curve-\d+-\d+"', svg)) == 90


def test_of_many_pairs_the_smallest_are_drawn() -> None:
    pairs = detected(43).pairs
    drawn = plots.drawable(pairs)
    assert len(drawn) == plots.MAX_CURVES
    largest = max(pair.size or 0 for pair in drawn)
    assert sum((pair.size or 0) <= largest for pair in pairs) == plots.MAX_CURVES


def test_pairs_without_a_search_have_no_curve() -> None:
    pairs = [replace(pair, size=None) for pair in not_detected(3).pairs]
    assert plots.curves(pairs, None, goal=0.8, prefix="a-") == ""


def test_a_detector_without_values_has_no_histogram() -> None:
    empty = replace(detected(3).detectors[0], values=((None, None, None),) * 3)
    assert plots.histogram(empty, prefix="a-") == ""
