"""Detectors: each searches for a planted pattern in its own way and judges what it found. One file, one table line.

`place` and `search` run where the model is open (the child process); `infer` runs where the verdict is made and imports
no torch. A detector opens no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from backscan.scanner.detectors import features, margin, neural_cleanse, pair_search, pairwise, tabor
from backscan.scanner.search.objectives import OBJECTIVES

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.converters import TorchClassifier
    from backscan.converters.cuts.split import Split
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.pair_search import Place
    from backscan.scanner.results import Inference, Pair, PairResult, TargetResult
    from backscan.scanner.search.objectives import Objective


@dataclass(frozen=True, slots=True)
class Examination:
    """What a detector works on."""

    classifier: TorchClassifier
    """Differentiable copy of the model, with its normalisation settled."""
    images_by_class: Mapping[int, Tensor]
    """Optimisation images [n, C, H, W] of every class that has enough of them, pixels in [0, 1]."""
    decisions_by_class: Mapping[int, Tensor]
    """Decisions of the copy on those images, int64 [n]."""
    num_classes: int
    """Classes of the model."""
    config: ScanConfig
    """Options of the scan."""
    stopped: Callable[[], bool]
    """True once the time is up."""
    cut: Split | None = None
    """The model cut in two, if a detector adds patterns to features."""
    draft: TorchClassifier | None = None
    """The copy in reduced precision, for steps that are confirmed in float32; None where that gains nothing."""
    cut_draft: Split | None = None
    """The cut model, its part behind the cut in reduced precision; None likewise."""


@dataclass(frozen=True, slots=True)
class Pilot:
    """What a few pilot pairs taught about the model."""

    step_size: float
    """Step size for all pairs."""
    num_images: int
    """Images that went through the model, for the estimate of time."""


@dataclass(frozen=True, slots=True)
class Detector:
    """One way to search every class pair, by Algorithm 1, and to judge."""

    place: Callable[[Examination], Place]
    """Where its patterns act on this model."""
    infer: Callable[[Sequence[PairResult], ScanConfig, int], tuple[Inference, ...]]
    """(pair results, options, number of classes) -> conclusions, the deciding one first."""
    objective: str
    """Name of the objective that it descends unless an option says otherwise."""
    acts_on_features: bool = False
    """Whether patterns are added where the model is cut (`ScanConfig.cut`) instead of to the image."""

    def find_step_size(self, examination: Examination) -> Pilot:
        """The step size for this model, from a few pilot pairs."""
        return pair_search.find_step_size(examination, self.place(examination))

    def optimise(self, examination: Examination, pairs: Sequence[Pair], step_size: float) -> Iterator[PairResult]:
        """Search for a pattern for each of some pairs; results as they finish, without those the time did not allow."""
        return pair_search.optimise(examination, self.place(examination), pairs, step_size)

    def look(self, examination: Examination, pairs: Sequence[Pair]) -> list[float]:
        """Sizes of some pairs, quickly estimated, for models with many classes; none if the time was up."""
        return pair_search.look(examination, self.place(examination), pairs)


@dataclass(frozen=True, slots=True)
class TargetDetector:
    """One way to search every target class, pooling the others, and to judge. It only informs."""

    search: Callable[[Examination], Iterator[TargetResult]]
    """Results as they finish; targets that were not finished when the time was up are missing."""
    infer: Callable[[Sequence[TargetResult], ScanConfig, int], Inference]
    """(results, options, number of classes) -> conclusion."""
    needs_images: bool = True
    """Whether it searches on clean images."""


DETECTORS: Mapping[str, Detector] = MappingProxyType(
    {
        "pairwise": Detector(pairwise.place, pairwise.infer, objective="ce"),
        "features": Detector(features.place, features.infer, objective="J", acts_on_features=True),
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
    return OBJECTIVES[config.objective or DETECTORS[detector].objective]


def conclude(
    pairs: Sequence[PairResult], targets: Sequence[TargetResult], config: ScanConfig, num_classes: int
) -> tuple[Inference, ...]:
    """What every chosen detector concludes, in the order in which they were chosen."""
    conclusions: list[Inference] = []
    for name in config.detectors:
        if name in DETECTORS:
            own_pairs = [pair for pair in pairs if pair.detector == name]
            conclusions += DETECTORS[name].infer(own_pairs, config, num_classes)
        else:
            own_targets = [entry for entry in targets if entry.detector == name]
            conclusions.append(TARGET_DETECTORS[name].infer(own_targets, config, num_classes))
    return tuple(conclusions)
