"""Where no common candidate explains the images: rarer ones, then a search of scale and offset; all by accuracy.

What fits is left alone. A rarer candidate takes the place of the best common one only if it is plainly more accurate
on the same images, so that models which fit today are read as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.converters import Normalisation

    Right = Callable[[Normalisation], NDArray[np.bool_]]

GOOD_ACCURACY = 0.9
"""Accuracy from which nothing else is tried, unless the model is surer than that."""
MOST_OVERCONFIDENCE = 0.15
"""Mean highest posterior above the accuracy from which the preprocessing is doubted."""
_LEAST_GAIN = 0.05
_SIGNIFICANCE = 0.001  # of one among a few dozen comparisons
_RANGES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 32.0, 64.0, 128.0, 255.0, 512.0)
_BLACKS = (0.0, 0.25, 0.5, 0.75)
"""Values of black, in units of the range below zero."""
_STARTS = 3
"""Places of the coarse grid that are refined: at a far too large range a few classes may be right by chance."""
_FINER = ((1.4, 0.125), (1.2, 0.06), (1.1, 0.03), (1.05, 0.015))
"""Factor on the range and shift of black of each round around the best so far."""


def is_better(right: NDArray[np.bool_], than: NDArray[np.bool_]) -> bool:
    """Whether one way of reading images is plainly more accurate than another on the same images.

    Args:
        right: Which images [N] are decided as labelled the one way.
        than: The same the other way.
    """
    from scipy.stats import binomtest

    won, lost = int(np.sum(right & ~than)), int(np.sum(than & ~right))
    if won - lost < _LEAST_GAIN * len(right):
        return False
    return float(binomtest(won, won + lost, 0.5, alternative="greater").pvalue) <= _SIGNIFICANCE


def search_scale(right_on_few: Right, orders: Sequence[str]) -> Normalisation:
    """The most accurate range and offset of a grid, the same for all channels, and then of finer ones around it.

    Args:
        right_on_few: Which of some images are decided as labelled under a normalisation.
        orders: Channel orders to try.
    """

    @cache
    def accuracy(reading: Normalisation) -> float:
        return float(right_on_few(reading).mean())

    coarse = [_reading(size, black, order) for size, black, order in product(_RANGES, _BLACKS, orders)]
    starts = sorted(coarse, key=accuracy, reverse=True)[:_STARTS]
    return max((_refined(start, accuracy) for start in starts), key=accuracy)


def _refined(best: Normalisation, accuracy: Callable[[Normalisation], float]) -> Normalisation:
    for factor, shift in _FINER:
        best = max(_around(best, factor, shift), key=accuracy)
    return best


def _reading(size: float, black: float, order: str) -> Normalisation:
    from backscan.converters import Normalisation

    return Normalisation(low=-black * size, high=(1 - black) * size, channel_order=order)


def _around(best: Normalisation, factor: float, shift: float) -> Iterator[Normalisation]:
    """The reading found and its neighbours, itself first, so that it stays where none is better."""
    yield best
    size = best.high - best.low
    black = -best.low / size
    for scaled, shifted in product((size / factor, size, size * factor), (black - shift, black, black + shift)):
        yield _reading(scaled, shifted, best.channel_order)
