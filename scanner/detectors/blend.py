"""Blended pictures: what share of the other classes' images a faint picture over the whole image sends to each target.

As `window`, with another support: all of the image, of which the picture hides a small share
(`search/blended.py`), as in blended attacks (Chen et al. 2017). One opacity serves all targets of a model and follows
from the median target. Images that count were not seen by the search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from backscan.scanner.detectors import window
from backscan.scanner.inference.rates import infer_rates
from backscan.scanner.search import effort

if TYPE_CHECKING:
    import numpy as np

    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.base import Examination
    from backscan.scanner.results import Inference, TargetResult
    from backscan.scanner.search.halving import Climb
    from backscan.scanner.search.supports import Supports

NAME = "blend"

# Opacities that are tried, in percent.
_PERCENT, _FIRST = (1, 2, 3, 4, 6, 8, 11, 15, 20, 28), 6


def search(examination: Examination) -> Iterator[TargetResult]:
    """The best picture towards every wanted target, with its rates."""
    return window.search_form(examination, BLEND)


def infer(targets: Sequence[TargetResult], config: ScanConfig, num_classes: int) -> tuple[Inference, ...]:
    """Whether a target, or a pair, is reached by abnormally many images."""
    return infer_rates(targets, config, num_classes, detector=NAME)


def opacities(_height: int, _width: int) -> list[int]:
    """Opacities that are tried, in percent, whatever the size of the image."""
    return list(_PERCENT)


def passes(_height: int, _width: int, _num_sources: int) -> effort.Passes:
    """What one target takes."""
    return effort.of_blend()


def _first(_height: int, _width: int) -> int:
    return _FIRST


def _find(climb: Climb, percent: int) -> tuple[Supports | None, int]:
    from backscan.scanner.search.blended import find_blend

    return find_blend(climb, percent / 100), sum(stage.steps for stage in effort.BLEND)


def _nowhere(_found: Supports, _percent: int, _shape: tuple[int, int], _rng: np.random.Generator) -> None:
    """A picture that covers all of the image has no other place."""


BLEND = window.Form(NAME, opacities, _first, _find, _nowhere)
"""Pictures over the whole image."""
