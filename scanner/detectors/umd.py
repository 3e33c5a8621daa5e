"""Attacks on many class pairs at once: does the pattern of each pair work on the images of the others?

After UMD (Xiang, Xiong and Li, ICML 2023): an attack that sends every class elsewhere, or several of them, has one
trigger for all, so that the pattern of one of its pairs also moves the images of another where that one's would. The
patterns are those that `pairwise` found, so nothing is searched. They are compared at one size for all, the median
one: at its own a planted pattern is so small that it hardly moves other classes. Which pairs belong together, and
whether that is more than chance, says `inference/many_pairs.py`. It informs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.base import Examination
    from backscan.scanner.results import Inference, PairResult, TargetResult

NAME = "umd"

IMAGES_A_HALF, FEWEST_A_HALF = 20, 4
"""Images of a class that say which pairs belong together, and others that test it; with fewer a class is left out."""
_MOST_PATTERNS, _MOST_COUNTS, _MOST_VALUES = 400, 400_000, 1 << 24
"""Patterns that are tried, so many counts and so many values of patterns at most."""


def search(examination: Examination) -> Iterator[TargetResult]:
    """What the patterns that lead to each target do to the images of all classes."""
    from backscan.scanner.results import EncodedArray, PairStatus, PatternsAcross, TargetResult

    halves = [_images(examination, half) for half in (0, 1)]
    tables = [_tables(examination, images) for images in halves] if examination.patterns else []
    if not tables or any(table is None for table in tables):
        return
    pairs = list(examination.patterns)
    hits = np.stack([table for table in tables if table is not None])  # [2, P, K, K]
    counts = tuple(tuple(len(images.get(label, ())) for label in range(examination.num_classes)) for images in halves)
    for target in sorted({target for _, target in pairs}):
        own = [place for place, pair in enumerate(pairs) if pair[1] == target]
        across = PatternsAcross(
            tuple(pairs[place][0] for place in own), EncodedArray.encode(hits[:, own].astype(np.float32)), counts
        )
        yield TargetResult(NAME, target, PairStatus.REACHED, value=None, rate=None, steps=0, across=across)


def infer(targets: Sequence[TargetResult], config: ScanConfig, num_classes: int) -> Inference:
    """Which pairs belong to one attack, if some do."""
    from backscan.scanner.inference.many_pairs import infer_many_pairs

    return infer_many_pairs(targets, config, num_classes, detector=NAME)


def with_patterns(pairs: Sequence[PairResult], num_classes: int) -> list[PairResult]:
    """The pairs whose patterns are tried: of very many those with the smallest."""
    found = [pair for pair in pairs if pair.pattern is not None and pair.status.counts and pair.size]
    values = max((pair.pattern.size for pair in found if pair.pattern is not None), default=1)
    most = min(_MOST_PATTERNS, _MOST_COUNTS // num_classes**2, _MOST_VALUES // values)
    smallest = sorted(found, key=lambda pair: pair.size or 0.0)[:most]
    return sorted(smallest, key=lambda pair: (pair.source, pair.target))


def images_passed(config: ScanConfig, number: int) -> int:
    """About how many images pass for a target, as if forward and back."""
    classes = max(1, number // config.images_per_class)
    return classes * min(number, 2 * IMAGES_A_HALF * classes) // 3


def _images(examination: Examination, half: int) -> dict[int, Tensor]:
    """Every second image that is decided as its class, of the classes that have enough."""
    found = {}
    for label, images in sorted(examination.images_by_class.items()):
        right = images[examination.decisions_by_class[label] == label]
        if len(right) >= 2 * FEWEST_A_HALF:
            found[label] = right[half::2][:IMAGES_A_HALF]
    return found


def _tables(examination: Examination, images: dict[int, Tensor]) -> NDArray[np.int64] | None:
    """Images of each class decided as each class with every pattern, [P, K, K]; None without time or images."""
    import torch

    from backscan.scanner.search.across import decided_with
    from backscan.scanner.search.norms import NORMS

    if not images:
        return None
    norm = NORMS[examination.config.norm]
    sizes = [float(norm(pattern.unsqueeze(0))) for pattern in examination.patterns.values()]
    scaled = [
        pattern * (float(np.median(sizes)) / max(size, 1e-30))
        for pattern, size in zip(examination.patterns.values(), sizes, strict=True)
    ]
    on_cpu = examination.classifier.device.type == "cpu"
    decided = decided_with(
        examination.classifier,
        torch.cat(list(images.values())),
        scaled,
        threads=(examination.config.threads or os.cpu_count() or 1) if on_cpu else 1,
        images_at_once=examination.images_at_once,
        stopped=examination.stopped,
    )
    if decided is None:
        return None
    labels = np.repeat(list(images), [len(own) for own in images.values()])
    table = np.zeros((len(scaled), examination.num_classes, examination.num_classes), np.int64)
    for place, row in enumerate(decided.numpy(force=True)):
        np.add.at(table[place], (labels, row), 1)
    return table
