"""Sizes in one unit that a reader can picture: the change of a pixel, of 255; inside the model the share of the median.

A size is a norm over all pixels and channels, so it says how far a pixel changes on average. The largest change of one
pixel is known of a recovered pattern alone.
"""

from __future__ import annotations

import math
import statistics

from backscan.scanner.reports.words import number, percent, size_text
from backscan.scanner.results import IMAGE, FoundPattern, Inference, ScanResult

INSIDE = "inside the model"
"""How the space of a pattern on features is called; the tensor's name is a detail."""
_LEVELS = 255.0


def place_of(result: ScanResult, space: str) -> str:
    """Where patterns of a space act: empty for ones that are added to images, `in space colour`, `inside the model`."""
    if space == IMAGE:
        return ""
    return f"in space {space}" if result.space is not None and space == result.space.name else INSIDE


def size_in_words(result: ScanResult, inference: Inference, size: float) -> str:
    """`0.53 (L2), on average 2.4 of 255 a pixel`, or inside the model `18.9 (L2), 40% of the median pair's`."""
    told = _translated(result, inference, size)
    return f"{size_text(size, inference.norm)}{f', {told}' if told else ''}"


def largest_size(result: ScanResult, inference: Inference) -> str:
    """The largest size that the search for pairs tried."""
    limit = result.config.get("max_size")
    if limit is not None:
        return size_in_words(result, inference, float(limit))
    if result.space is not None and inference.space == result.space.name:
        return result.space.limit
    return "half of black-to-white, 128 of 255 a pixel" if inference.space == IMAGE else "two standard deviations"


def pattern_in_words(result: ScanResult, found: FoundPattern) -> str:
    """How much a recovered pattern changes: `changes a pixel by at most 9 of 255, on average by 1 (L2 0.22, L1 7)`."""
    if (weights := found.weights) is not None:
        return f"takes the place of as much of the image as {number(float(weights.sum()))} of its {weights.size} pixels"
    norms = f"L2 {number(found.size_l2)}, L1 {number(found.size_l1)}"
    if found.space != IMAGE:
        share = _share_of_median(result, found.detector, found.size)
        return f"{norms}, largest change {number(found.largest_change)}{f'; {share}' if share else ''}"
    most = math.ceil(_LEVELS * found.largest_change - 1e-4)
    average = found.size_l2 / math.sqrt(max(1, found.values.decode().size))
    return f"changes a pixel by at most {most} of 255, on average by {_level(average)} ({norms})"


def _level(change: float) -> str:
    """A change in [0, 1] in levels of 255: two digits of it, from 10 on a whole number."""
    scaled = _LEVELS * change
    return f"{scaled:.0f}" if scaled >= 10 else f"{scaled:.2g}"


def _translated(result: ScanResult, inference: Inference, size: float) -> str:
    if inference.space != IMAGE:
        return _share_of_median(result, inference.detector, size)
    shape = result.model.signature.input_shape if result.model.signature else None
    pixels = math.prod(shape) if shape else 0
    if not pixels or inference.norm not in ("l1", "l2"):
        return ""
    average = size / (math.sqrt(pixels) if inference.norm == "l2" else pixels)
    return f"on average {_level(average)} of 255 a pixel"


def _share_of_median(result: ScanResult, detector: str, size: float) -> str:
    sizes = [pair.size for pair in result.pairs if pair.detector == detector and pair.size is not None]
    median = statistics.median(sizes) if sizes else 0.0
    return f"{percent(round(size / median, 2))} of the median pair's" if median else ""
