"""What every detector works on, and where the patterns of one that searches class pairs act."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backscan.scanner.search.norms import NORMS

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.converters import TorchClassifier
    from backscan.converters.cuts.split import Split
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.results import Pair, PairResult, ScreenRecord, TargetResult
    from backscan.scanner.search.spaces import Space


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
    reduced: TorchClassifier | None = None
    """The copy in reduced precision, for steps that are confirmed in float32; None where that gains nothing."""
    reduced_cut: Split | None = None
    """The cut model, its part behind the cut in reduced precision; None likewise."""
    images_at_once: int | None = None
    """Most images that pass forward and back together, by what a photograph holds in memory; None is any."""
    margins_by_class: Mapping[int, Tensor] = field(default_factory=dict)
    """How far each class leads over every other on its images, in log posteriors [K]; NaN with too few images."""
    patterns: Mapping[Pair, Tensor] = field(default_factory=dict)
    """Patterns [C, H, W] of class pairs that were found before, for a detector that needs them."""

    def clean_margin(self, source: int, target: int) -> float | None:
        """How far a source class leads over a target on its images; None where that is not known."""
        margins = self.margins_by_class.get(source)
        margin = math.nan if margins is None else float(margins[target])
        return margin if math.isfinite(margin) else None

    def images_per_pass(self, wanted: int) -> int:
        """Images of one pass: as many as are wanted, where memory takes them."""
        return wanted if self.images_at_once is None else min(wanted, self.images_at_once)


@dataclass(frozen=True, slots=True)
class Pilot:
    """What a few pilot pairs taught about the model."""

    step_size: float
    """Step size for all pairs."""
    num_images: int
    """Images that went through the model, for the estimate of time."""
    is_reduced: bool = False
    """Whether steps are taken in reduced precision: the model, the options and the processor have to allow it."""


@dataclass(frozen=True, slots=True)
class PatternSpace:
    """Where the patterns of a detector act, and how large they are there."""

    space: Space
    """Where patterns are added."""
    largest: Tensor
    """A pattern [1, ...] as large as any that is tried, unless an option says otherwise."""
    first_share: float
    """First step of the pilots, as a share of that: too long a step costs them less than too short a one."""
    reduced: Space | None = None
    """The space in reduced precision, for steps that are confirmed in float32."""

    def largest_size(self, norm: str) -> float:
        """Size of the largest pattern."""
        return float(NORMS[norm](self.largest))


@dataclass(frozen=True, slots=True)
class Searched:
    """What the chosen detectors found, before anything is concluded."""

    detectors: tuple[str, ...]
    """Names of the detectors that were to search."""
    num_classes: int
    """Classes of the model."""
    cut: str | None = None
    """Tensor at which the model was cut; None if it was not."""
    pairs: tuple[PairResult, ...] = ()
    """Every pair that was searched, or has no images, in order of detector, source and target."""
    screens: tuple[ScreenRecord, ...] = ()
    """Which pairs were searched, by each detector that did not search all."""
    targets: tuple[TargetResult, ...] = ()
    """Every target class of the detectors that search once per class."""

    def screen(self, detector: str) -> ScreenRecord | None:
        """Which pairs a detector searched; None where it searched all."""
        return next((screen for screen in self.screens if screen.detector == detector), None)
