"""Nearness that the clean images explain: pairs, and targets, beside how far classes lie apart without any pattern.

To first order a pattern needs the margin over the slope (Moosavi-Dezfooli et al. 2016, DeepFool): classes that look
alike have small margins, and their pairs small patterns for that reason. A planted pattern works on images whose
margins are those of any other pair. So the logarithm of the reciprocal is fitted by least squares as an effect of the
source plus a multiple of the logarithms of the margins both ways, and what these explain is taken off. Both ways, as
classes look alike both ways, while poisoned training may leave the source's clean images near the target.

A class that a model answers more readily than others, as one that was ten times as frequent in training, has images
that lead far and is led over by little. Its contrast as a target is compared beside that of the margins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backscan.scanner.inference.statistics import mean_present

if TYPE_CHECKING:
    from backscan.scanner.results import PairResult

Matrix = NDArray[np.float64]

# Pairs without which a multiple is not fitted, and the least share of pairs with a margin of all that count.
_FEWEST, _LEAST_SHARE = 20, 0.75
# Standard errors by which it has to be larger than nothing.
_CLEARLY = 2.0


def margin_matrix(pairs: Sequence[PairResult], num_classes: int) -> Matrix:
    """Clean margins by source and target, [K, K], NaN where none is known or it is not positive.

    Args:
        pairs: Results of one detector.
        num_classes: Classes K.
    """
    matrix = np.full((num_classes, num_classes), np.nan)
    for pair in pairs:
        if pair.clean_margin is not None and pair.clean_margin > 0.0:
            matrix[pair.source, pair.target] = pair.clean_margin
    return matrix


def weighed_by_margins(reciprocals: Matrix, margins: Matrix) -> Matrix | None:
    """The reciprocals times the root of the clean margins: half of what these would explain if all slopes were equal.

    Half, because of unattacked networks the contrast of sizes goes with that of margins by .6 to .8
    (benchmarks/accuracy/contrasts.py), and because an attack moves the margins of its own classes a little too.

    Args:
        reciprocals: 1 / size of each (source, target) pair, [K, K], NaN where a pair does not count.
        margins: Clean margins, [K, K], NaN where one is not known; the geometric mean of the others stands for it.

    Returns:
        [K, K], NaN where a pair does not count; None where more than a quarter of those that do lack a margin.
    """
    known = ~np.isnan(reciprocals) & ~np.isnan(margins)
    if not known.any() or known.sum() < _LEAST_SHARE * np.count_nonzero(~np.isnan(reciprocals)):
        return None
    logs = np.log(margins)
    weighed: Matrix = reciprocals * np.exp(0.5 * np.where(known, logs, logs[known].mean()))
    return weighed


def beside_margins(reciprocals: Matrix, margins: Matrix) -> Matrix | None:
    """The reciprocals without what the margins explain of them, of the same geometric mean.

    Args:
        reciprocals: 1 / size of each (source, target) pair, [K, K], NaN where a pair does not count.
        margins: Clean margins, [K, K], NaN where one is not known.

    Returns:
        [K, K], NaN where either is, which leaves such pairs out of all that follows; None where more than a quarter of
        the pairs lack a margin, or smaller margins do not clearly mean nearer.
    """
    own = _about_sources(-np.log(margins))
    nearness = own + own.T
    known = ~np.isnan(reciprocals) & ~np.isnan(nearness)
    if known.sum() < max(_FEWEST, _LEAST_SHARE * np.count_nonzero(~np.isnan(reciprocals))):
        return None
    logs, nearness = (np.where(known, values, np.nan) for values in (np.log(reciprocals), nearness))
    # Both about the means of their sources: least squares with an effect of every source.
    about, explained = _about_sources(logs), _about_sources(nearness)
    spread = np.nansum(explained**2)
    if not spread > 0.0:
        return None
    multiple = np.nansum(about * explained) / spread
    freedom = known.sum() - known.any(axis=1).sum() - 1
    error = math.sqrt(np.nansum((about - multiple * explained) ** 2) / max(freedom, 1) / spread)
    if not multiple > _CLEARLY * error:
        return None
    beside: Matrix = np.exp(logs - multiple * (nearness - np.nanmean(nearness)))
    return beside


def _about_sources(values: Matrix) -> Matrix:
    """Each value less the mean of its row; NaN stays."""
    return values - mean_present(values, axis=1)
