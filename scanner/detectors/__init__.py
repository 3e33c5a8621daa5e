"""Detectors: each searches for a planted pattern in its own way and judges what it found. One file, one table line.

What searches runs where the model is open (the child process); `infer` runs where the verdict is made and imports no
torch. A detector opens no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from backscan.scanner.detectors import features, margin, neural_cleanse, pairwise, tabor
from backscan.scanner.detectors.base import Examination, Searched
from backscan.scanner.detectors.pair_search import Detector
from backscan.scanner.detectors.targets import TargetDetector

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.results import Inference
    from backscan.scanner.search.objectives import Objective

__all__ = ["DETECTORS", "TARGET_DETECTORS", "Examination", "Searched", "conclude", "objective_of", "searching"]

DETECTORS: Mapping[str, Detector] = MappingProxyType(
    {
        "pairwise": Detector("pairwise", pairwise.pattern_space, pairwise.infer, objective="ce"),
        "features": Detector("features", features.pattern_space, features.infer, objective="J", acts_on_features=True),
    }
)


TARGET_DETECTORS: Mapping[str, TargetDetector] = MappingProxyType(
    {
        "margin": TargetDetector(margin.search, margin.infer, needs_images=False),
        "neural-cleanse": TargetDetector(neural_cleanse.search, neural_cleanse.infer),
        "tabor": TargetDetector(tabor.search, tabor.infer),
    }
)


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
    """What every detector that was to search concludes, in the order in which they were chosen."""
    conclusions: list[Inference] = []
    for name in searched.detectors:
        if name in DETECTORS:
            conclusions += DETECTORS[name].infer(
                [pair for pair in searched.pairs if pair.detector == name], searched, config
            )
        else:
            own_targets = [entry for entry in searched.targets if entry.detector == name]
            conclusions.append(TARGET_DETECTORS[name].infer(own_targets, config, searched.num_classes))
    return tuple(conclusions)
