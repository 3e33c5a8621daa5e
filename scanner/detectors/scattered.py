"""Scattered pixels: what share of the other classes' images a few single pixels anywhere send to each target.

As `window`, with another support: the pixels that do most together, wherever they lie (`search/scattered.py`), as in
attacks of one pixel (Su et al. 2019) and others that count pixels. How many there are serves all targets of a model
and follows from the median target. Images that count were not seen by the search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.detectors import window
from backscan.scanner.inference.rates import infer_rates
from backscan.scanner.search import effort

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.base import Examination
    from backscan.scanner.results import Inference, TargetResult
    from backscan.scanner.search.halving import Climb
    from backscan.scanner.search.supports import Supports

NAME = "scattered"

# Numbers of pixels that are tried: up to a sixteenth of the image, as the largest window has.
_NUMBERS, _LARGEST_SHARE = (1, 2, 3, 4, 6, 9, 13, 19), 1 / 16
_FIRST_SHARE = 1 / 250


def search(examination: Examination) -> Iterator[TargetResult]:
    """The best pixels towards every wanted target, with their rates."""
    return window.search_form(examination, SCATTERED)


def infer(targets: Sequence[TargetResult], config: ScanConfig, num_classes: int) -> tuple[Inference, ...]:
    """Whether a target, or a pair, is reached by abnormally many images."""
    return infer_rates(targets, config, num_classes, detector=NAME)


def numbers(height: int, width: int) -> list[int]:
    """How many pixels are tried."""
    return [number for number in _NUMBERS if number <= max(1, _LARGEST_SHARE * height * width)]


def first_number(height: int, width: int) -> int:
    """How many are tried first."""
    return max(number for number in numbers(height, width) if number <= max(1, _FIRST_SHARE * height * width))


def passes(height: int, width: int, _num_sources: int) -> effort.Passes:
    """What one target takes."""
    return effort.of_scattered(height, width, first_number(height, width))


def _find(climb: Climb, number: int) -> tuple[Supports | None, int]:
    from backscan.scanner.search.scattered import find_scattered

    stages = (effort.LOOK, effort.NARROW, *[effort.GROW] * len(effort.pixels_added(number)), effort.LAST)
    return find_scattered(climb, number), sum(stage.steps for stage in stages)


def _apart(found: Supports, number: int, shape: tuple[int, int], rng: np.random.Generator) -> Tensor | None:
    """Other pixels, drawn at random."""
    import torch

    left = np.setdiff1d(np.arange(shape[0] * shape[1]), found.pixels[0].cpu().numpy())
    if len(left) < number:
        return None
    return torch.from_numpy(np.stack([rng.permutation(left)[:number] for _ in range(window.OTHER_PLACES)]))


SCATTERED = window.Form(NAME, numbers, first_number, _find, _apart)
"""Single pixels."""
