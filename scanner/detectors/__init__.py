"""Detectors: each searches for a planted pattern in its own way and judges what it found. One file, one table line.

What searches runs where the model is open (the child process); `infer` runs where the verdict is made and imports no
torch. A detector opens no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from backscan.scanner.choices.registered import Extensible
from backscan.scanner.detectors import (
    blend,
    features,
    head,
    large_window,
    margin,
    mask,
    neural_cleanse,
    pairwise,
    reach,
    scattered,
    tabor,
    transferability,
    umd,
    window,
)
from backscan.scanner.detectors.base import Examination, Searched
from backscan.scanner.detectors.pair_search import Detector
from backscan.scanner.detectors.targets import RateDetector, TargetDetector

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.results import Inference
    from backscan.scanner.search.objectives import Objective

T = TypeVar("T")

__all__ = [
    "DETECTORS",
    "RATE_DETECTORS",
    "TARGET_DETECTORS",
    "Examination",
    "Searched",
    "conclude",
    "objective_of",
    "searching",
    "searching_targets",
]


def _searches_pairs(path: str, value: Any) -> Detector:
    """What was registered, as a detector of class pairs whose results carry its path."""
    return replace(_expected(path, value, Detector), name=path)


def _searches_targets(path: str, value: Any) -> TargetDetector:
    return _expected(path, value, TargetDetector)


def _decides_by_rates(path: str, value: Any) -> RateDetector:
    return _expected(path, value, RateDetector)


def _expected(path: str, value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{path} is a {type(value).__name__} and no {kind.__name__}")
    return value


DETECTORS: Mapping[str, Detector] = Extensible(
    {
        "pairwise": Detector("pairwise", pairwise.pattern_space, pairwise.infer, objective="ce"),
        "features": Detector("features", features.pattern_space, features.infer, objective="J", acts_on_features=True),
        "transferability": Detector(
            "transferability",
            transferability.pattern_space,
            transferability.infer,
            objective="ce",
            measures=transferability.with_transfers,
        ),
    },
    table="DETECTORS",
    made=_searches_pairs,
)


TARGET_DETECTORS: Mapping[str, TargetDetector] = Extensible(
    {
        "head": TargetDetector(
            head.search, head.infer, needs_images=False, images_passed=lambda *_: head.NOISE_IMAGES // 10
        ),
        "margin": TargetDetector(
            margin.search, margin.infer, needs_images=False, images_passed=lambda *_: margin.STARTS * margin.STEPS
        ),
        "neural-cleanse": TargetDetector(neural_cleanse.search, neural_cleanse.infer),
        "tabor": TargetDetector(tabor.search, tabor.infer),
        "umd": TargetDetector(
            umd.search, umd.infer, images_passed=umd.images_passed, chosen_patterns=umd.with_patterns
        ),
    },
    table="TARGET_DETECTORS",
    made=_searches_targets,
)
"""Detectors of target classes that inform."""


RATE_DETECTORS: Mapping[str, RateDetector] = Extensible(
    {
        "window": RateDetector(window.search, window.infer),
        "large-window": RateDetector(large_window.search, large_window.infer, passes=large_window.passes),
        "mask": RateDetector(mask.search, mask.infer, passes=mask.passes, tries_sides=False),
        "reach": RateDetector(reach.search, reach.infer),
        "scattered": RateDetector(scattered.search, scattered.infer, passes=scattered.passes),
        "blend": RateDetector(blend.search, blend.infer, passes=blend.passes),
    },
    table="RATE_DETECTORS",
    made=_decides_by_rates,
)
"""Detectors of target classes that decide, by what takes the place of a part of images and how often they follow it."""


def searching_targets(detector: str) -> RateDetector | TargetDetector | None:
    """The detector of target classes of a name; None for one that searches pairs."""
    return RATE_DETECTORS.get(detector) or TARGET_DETECTORS.get(detector)


def searching(config: ScanConfig, cut: str | None) -> tuple[str, ...]:
    """The chosen detectors that can search pairs: one that acts on features needs a model that is cut at a tensor."""
    return tuple(
        name
        for name in config.detectors
        if name in DETECTORS and (cut is not None or not DETECTORS[name].acts_on_features)
    )


def objective_of(config: ScanConfig, detector: str) -> Objective:
    """The objective that a detector of class pairs descends: the chosen one, or its own."""
    return DETECTORS[detector].objective_under(config)


def conclude(searched: Searched, config: ScanConfig) -> tuple[Inference, ...]:
    """What every detector that was to search concludes, as chosen, after what they conclude together."""
    conclusions: list[Inference] = []
    for name in searched.detectors:
        if name in DETECTORS:
            conclusions += DETECTORS[name].infer(
                [pair for pair in searched.pairs if pair.detector == name], searched, config
            )
            continue
        own_targets = [entry for entry in searched.targets if entry.detector == name]
        if name in RATE_DETECTORS:
            conclusions += RATE_DETECTORS[name].infer(own_targets, config, searched.num_classes)
        else:
            conclusions.append(TARGET_DETECTORS[name].infer(own_targets, config, searched.num_classes))
    if config.combination == "each" or config.published_p:
        return tuple(conclusions)
    from backscan.scanner.inference.agreement import combined

    return combined(conclusions, searched.pairs, searched.targets, config)
