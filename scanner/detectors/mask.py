"""Masks: the smallest mask behind which one content sends most images of the other classes to each target.

Neural Cleanse (Wang et al. 2019; XMK equations 8 and 9) at a small part of its passes: few images of each class and few
steps show which target needs an abnormally small mask, though not yet how small the smallest is. Masks see patches of
any form, also of a size that no window has. What a mask does is counted on images that it never saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from backscan.scanner.config import SMALL_MASKS
from backscan.scanner.detectors.counting import Counting
from backscan.scanner.inference.mask_sizes import infer_mask_sizes
from backscan.scanner.search import effort

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.base import Examination
    from backscan.scanner.detectors.mask_search import FoundMask, Masked
    from backscan.scanner.results import Inference, TargetResult
    from backscan.scanner.search.supports import Supports

NAME = SMALL_MASKS

_NORM = "l1"
# Images of a class without which its images are not counted: half of them search, and no mask takes more.
_FEWEST_IMAGES = 2 * effort.MASK_IMAGES
# Half a step of an 8-bit image: what hides less of a pixel than that changes nothing that a file could hold.
_LEAST_OPACITY = 0.5 / 255


def search(examination: Examination) -> Iterator[TargetResult]:
    """The smallest mask of every wanted target, with its rates."""
    from backscan.scanner.detectors.mask_search import find_masks
    from backscan.scanner.detectors.neural_cleanse import mask_share

    def penalty(masked: Masked) -> Tensor:
        return mask_share(masked, _NORM)

    counting = Counting.of(examination, fewest=_FEWEST_IMAGES)
    for found in find_masks(_reduced(examination), penalty, images_per_step=effort.MASK_DRAWN):
        yield _result(counting, found)


def infer(targets: Sequence[TargetResult], config: ScanConfig, num_classes: int) -> tuple[Inference, ...]:
    """Whether the mask of a target, or of a few together, is abnormally small."""
    return (infer_mask_sizes(targets, config, num_classes, detector=NAME),)


def passes(_height: int, _width: int, num_sources: int) -> effort.Passes:
    """What one target takes."""
    return effort.of_mask(num_sources)


def _reduced(examination: Examination) -> Examination:
    """The same with so few images and steps as the search takes."""
    few = {label: images[: effort.MASK_IMAGES] for label, images in examination.images_by_class.items()}
    config = replace(examination.config, max_steps=effort.MASK_STEPS, norm=_NORM)
    return replace(examination, images_by_class=few, config=config)


def _result(counting: Counting, found: FoundMask) -> TargetResult:
    """A mask with its rates, of one that was found."""
    from backscan.scanner.results import TargetResult

    support, rate = None, found.rate
    if found.size is not None:
        support = counting.record(found.target, _as_support(found), side=max(1, round(found.size)))
        rate = sum(support.hits) / sum(support.counts) if any(support.counts) else rate
    return TargetResult(NAME, found.target, found.status, found.size, rate, effort.MASK_STEPS, support=support)


def _as_support(found: FoundMask) -> Supports:
    """A mask and what stands behind it as content of the pixels that it hides."""
    from backscan.scanner.search.supports import Supports

    opacity = found.mask.flatten()
    # Where the goal needs no content the mask may fade altogether; no pixel would mean all of them.
    pixels = (opacity >= min(_LEAST_OPACITY, float(opacity.max()))).nonzero().flatten()
    return Supports(pixels[None], found.pattern.flatten(1)[None, :, pixels], opacity[None, pixels])
