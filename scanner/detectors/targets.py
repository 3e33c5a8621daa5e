"""What the detectors that search once per target class share: a few targets at a time, on whatever computes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from backscan.scanner.search.effort import MASKED, Passes

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.base import Examination
    from backscan.scanner.results import Inference, PairResult, TargetResult

Found = TypeVar("Found")

# Images of one pass on a GPU; on a CPU a target is a pass of its own.
_IMAGES_ON_GPU = 8192
# Keeps the order apart from every other use of the seed.
_ORDER = 13


@dataclass(frozen=True, slots=True)
class TargetDetector:
    """One way to search every target class, pooling the others, and to judge. It only informs."""

    search: Callable[[Examination], Iterator[TargetResult]]
    """Results as they finish; targets that were not finished when the time was up are missing."""
    infer: Callable[[Sequence[TargetResult], ScanConfig, int], Inference]
    """(results, options, number of classes) -> conclusion."""
    needs_images: bool = True
    """Whether it searches on clean images."""
    images_passed: Callable[[ScanConfig, int], int] = lambda config, number: config.max_steps * min(MASKED, number)
    """(options, images of all classes) -> images that pass forward and back for a target, to estimate the time."""
    chosen_patterns: Callable[[Sequence[PairResult], int], Sequence[PairResult]] | None = None
    """(class pairs that were searched, number of classes) -> those whose patterns it works with; None needs none."""


@dataclass(frozen=True, slots=True)
class RateDetector:
    """One way to search what takes the place of a part of images, for every target class, and to judge: it decides."""

    search: Callable[[Examination], Iterator[TargetResult]]
    """Results with their supports as they finish; targets that were not finished when the time was up are missing."""
    infer: Callable[[Sequence[TargetResult], ScanConfig, int], tuple[Inference, ...]]
    """(results, options, number of classes) -> conclusions by target and by pair."""
    needs_images: bool = True
    """Whether it searches on clean images."""
    passes: Callable[[int, int, int], Passes] | None = None
    """(height, width, number of sources) -> what passes for a target, to estimate the time; None is as for a window."""
    tries_sides: bool = True
    """Whether content has a size, at which some targets are searched first, and is tried at other places."""


def in_order(config: ScanConfig, num_classes: int) -> list[int]:
    """The wanted targets; under a time limit in an order by the seed, so that those that it allows are a sample."""
    wanted = list(range(num_classes)) if config.targets is None else sorted(set(config.targets))
    if config.time_limit is None:
        return wanted
    order = np.random.default_rng((config.seed, _ORDER)).permutation(len(wanted))
    return [wanted[index] for index in order]


def search_in_groups(
    examination: Examination, search: Callable[[Sequence[int]], Sequence[Found]], *, images_per_target: int
) -> Iterator[Found]:
    """Search every wanted target class: on a CPU one in each thread, on a GPU many in one batch.

    Groups follow from the model, the options and the device alone, and so do results.

    Args:
        examination: The model and the options.
        search: Searches some targets in one batch; empty if the time was up.
        images_per_target: Images of one target that pass the model together.
    """
    config = examination.config
    wanted = in_order(config, examination.num_classes)
    on_cpu = examination.classifier.device.type == "cpu"
    size = 1 if on_cpu else max(1, _IMAGES_ON_GPU // images_per_target)
    groups = [wanted[start : start + size] for start in range(0, len(wanted), size)]
    with ThreadPoolExecutor((config.threads or os.cpu_count() or 1) if on_cpu else 1) as pool:
        try:
            for done in as_completed([pool.submit(search, group) for group in groups]):
                yield from done.result()
        finally:
            pool.shutdown(cancel_futures=True)
