"""The detector of XMK: smallest common pattern of every class pair, judged against a null fitted to the other pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backscan.scanner.detectors.base import PatternSpace

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.base import Examination, Searched
    from backscan.scanner.results import Inference, PairResult

NAME = "pairwise"

# Largest size tried, as a share of the pattern that turns black into white everywhere.
_LARGEST_SHARE = 0.5
_FIRST_SHARE = 0.004


def pattern_space(examination: Examination) -> PatternSpace:
    """Patterns are added to the image."""
    from backscan.scanner.search.spaces import BoxedImage, ClippedImage

    space = BoxedImage if examination.config.box else ClippedImage
    image = next(iter(examination.images_by_class.values()))[:1]
    largest = image.new_full(image.shape, _LARGEST_SHARE)
    reduced = None if examination.reduced is None else space(examination.reduced)
    return PatternSpace(space(examination.classifier), largest, _FIRST_SHARE, reduced)


def infer(pairs: Sequence[PairResult], searched: Searched, config: ScanConfig) -> tuple[Inference, ...]:
    """Whether the most extreme pair is abnormal among the others (XMK section 3.1.3)."""
    from backscan.scanner.inference.variants import infer_pairs

    return infer_pairs(pairs, config, searched.num_classes, detector=NAME, space="image", screen=searched.screen(NAME))
