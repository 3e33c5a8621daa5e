"""Two, three or four classes: does what moves one image of a class to another also move the others? STATISTICS 5.

With so few classes there are no other pairs to compare with. After the expected transferability of Xiang, Miller and
Kesidis (ICLR 2022): every image has a pattern of its own, and what counts is how often it moves another image
(`search/transfer.py`). The smallest common pattern of each pair is searched as by `pairwise`; it is what is replayed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from backscan.scanner.detectors.pairwise import pattern_space

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.base import Examination, Searched
    from backscan.scanner.results import Inference, Pair, PairResult
    from backscan.scanner.search.settings import SearchSettings

__all__ = ["infer", "pattern_space", "with_transfers"]

NAME = "transferability"


def with_transfers(
    found: Iterator[PairResult], settings: SearchSettings, examination: Examination, pairs: Sequence[Pair]
) -> Iterator[PairResult]:
    """Search results with how the patterns of single images move each other, found before the first of them.

    Args:
        found: Results of the search of the pairs.
        settings: How it searches.
        examination: The model and its images; once the time is up there are no results.
        pairs: The pairs.
    """
    from backscan.scanner.search.settings import Work
    from backscan.scanner.search.transfer import transfers

    decided = {
        label: images[examination.decisions_by_class[label] == label]
        for label, images in examination.images_by_class.items()
    }
    measured = transfers(settings, decided, pairs, Work(), stopped=examination.stopped)
    for result in found if len(measured) == len(set(pairs)) else ():
        yield replace(result, transfer=measured[result.source, result.target])


def infer(pairs: Sequence[PairResult], searched: Searched, config: ScanConfig) -> tuple[Inference, ...]:
    """Whether the patterns of single images move the others more often than half of the time."""
    from backscan.scanner.inference.transfer import infer_transfers

    return infer_transfers(pairs, config, searched.num_classes, detector=NAME)
