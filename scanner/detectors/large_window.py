"""Larger windows: what share of the other classes' images content succeeds on where ordinary content does on most.

As `window`, at a side at which the median target takes not a tenth but most of the images. A patch that is larger than
the windows of that detector shows only a part of itself there and need not stand out; here it fits, and works on nearly
all images where ordinary content of its size still fails on some. Where no side up to a quarter of the image comes so
far, or the least takes nearly all images, nothing is searched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from backscan.scanner.detectors import window
from backscan.scanner.inference.rates import infer_rates
from backscan.scanner.search import effort

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.base import Examination
    from backscan.scanner.results import Inference, TargetResult

NAME = "large-window"

_FIRST_SIDE = 3 / 16


def search(examination: Examination) -> Iterator[TargetResult]:
    """The best large window towards every wanted target, with its rates; none where no side is large enough."""
    shape = examination.classifier.signature.input_shape[1:]
    if first_side(*shape) > window.first_side(*shape):
        yield from window.search_form(examination, LARGE_WINDOW)


def infer(targets: Sequence[TargetResult], config: ScanConfig, num_classes: int) -> tuple[Inference, ...]:
    """Whether a target, or a pair, is reached by abnormally many images."""
    return infer_rates(targets, config, num_classes, detector=NAME)


def sides(height: int, width: int) -> list[int]:
    """Sides that are tried: those above the one that `window` tries first, or that one where there is no other."""
    every, first = window.sides(height, width), window.first_side(height, width)
    return [side for side in every if side > first] or [first]


def first_side(height: int, width: int) -> int:
    """The side that is tried first, the nearest to three sixteenths of the shorter side."""
    return min(sides(height, width), key=lambda side: abs(side - _FIRST_SIDE * min(height, width)))


def passes(height: int, width: int, _num_sources: int) -> effort.Passes:
    """What the search for one target takes."""
    return effort.of_window(height, width, first_side(height, width))


LARGE_WINDOW = window.Form(
    NAME,
    sides,
    first_side,
    window.find,
    window.apart,
    window.Medians(least=0.5, most=0.85, best=0.7, enough=0.3, too_much=0.95),
)
"""Square windows in which ordinary content succeeds on most images."""
