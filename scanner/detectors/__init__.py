"""Detectors: each searches for a planted pattern in its own way and judges what it found. One file, one table line.

What searches runs where the model is open (the child process); `infer` runs where the verdict is made and imports no
torch. A detector opens no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from backscan.scanner.detectors import features, margin, neural_cleanse, pairwise, tabor, transferability, window
from backscan.scanner.detectors.base import Examination, Searched
from backscan.scanner.detectors.pair_search import Detector
from backscan.scanner.detectors.targets import RateDetector, TargetDetector

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.results import Inference
    from backscan.scanner.search.objectives import Objective

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

DETECTORS: Mapping[str, Detector] = MappingProxyType(
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
    }
)


TARGET_DETECTORS: Mapping[str, TargetDetector] = MappingProxyType(
    {
        "margin": TargetDetector(margin.search, margin.infer, needs_images=False),
        "neural-cleanse": TargetDetector(neural_cleanse.search, neural_cleanse.infer),
        "tabor": TargetDetector(tabor.search, tabor.infer),
    }
)
"""Detectors of target classes that inform."""


RATE_DETECTORS: Mapping[str, RateDetector] = MappingProxyType({"window": RateDetector(window.search, window.infer)})
"""Detectors of target classes that decide, by how often images follow what takes the place of a part of them."""


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
