"""Detectors: each searches for a planted pattern in its own way and judges what it found. One file, one table line.

`optimise` runs where the model is open (the child process); `infer` runs where the verdict is made and imports no
torch. A detector opens no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from backscan.scanner.detectors import pairwise

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.converters import TorchClassifier
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.results import Inference, PairResult


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


@dataclass(frozen=True, slots=True)
class Pilot:
    """What a few pilot pairs taught about the model."""

    step_size: float
    """Step size for all pairs."""
    num_images: int
    """Images that went through the model, for the estimate of time."""


class Optimise(Protocol):
    """Searches for a pattern for each of some pairs."""

    def __call__(
        self, examination: Examination, pairs: Sequence[tuple[int, int]], step_size: float
    ) -> Iterator[PairResult]:
        """Results as they finish; pairs that were not begun when the time was up are missing."""


@dataclass(frozen=True, slots=True)
class Detector:
    """One way to search and to judge."""

    find_step_size: Callable[[Examination], Pilot]
    """The step size for this model, from a few pilot pairs."""
    optimise: Optimise
    """Search for patterns."""
    infer: Callable[[Sequence[PairResult], ScanConfig, int], tuple[Inference, ...]]
    """(pair results, options, number of classes) -> conclusions, the deciding one first."""


DETECTORS: Mapping[str, Detector] = MappingProxyType(
    {
        "pairwise": Detector(pairwise.find_step_size, pairwise.optimise, pairwise.infer),
    }
)
