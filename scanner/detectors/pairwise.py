"""The detector of XMK: smallest common pattern of every class pair, judged against a null fitted to the other pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors import Examination
    from backscan.scanner.detectors.pair_search import Place
    from backscan.scanner.results import Inference, PairResult

NAME = "pairwise"

# Largest size tried, as a share of the pattern that turns black into white everywhere.
_LARGEST_SHARE = 0.5
_FIRST_SHARE = 0.004


def place(examination: Examination) -> Place:
    """Patterns are added to the image."""
    from backscan.scanner.detectors import objective_of
    from backscan.scanner.detectors.pair_search import Place
    from backscan.scanner.search.spaces import BoxedImage, ClippedImage

    space = BoxedImage if examination.config.box else ClippedImage
    image = next(iter(examination.images_by_class.values()))[:1]
    objective = objective_of(examination.config, NAME)
    largest = image.new_full(image.shape, _LARGEST_SHARE)
    draft = None if examination.draft is None else space(examination.draft)
    return Place(NAME, space(examination.classifier), objective, largest, _FIRST_SHARE, draft)


def infer(pairs: Sequence[PairResult], config: ScanConfig, num_classes: int) -> tuple[Inference, ...]:
    """Whether the most extreme pair is abnormal among the others (XMK section 3.1.3)."""
    from backscan.scanner.inference.variants import infer_pairs

    return infer_pairs(pairs, config, num_classes, detector=NAME, space="image")
