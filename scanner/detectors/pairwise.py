"""The detector of XMK: smallest common pattern of every class pair, judged against a null fitted to the other pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backscan.scanner.detectors.base import PatternSpace
from backscan.scanner.search.spaces import SPACES, BoxedImage, ClippedImage

if TYPE_CHECKING:
    from backscan.converters import TorchClassifier
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.base import Examination, Searched
    from backscan.scanner.results import Inference, PairResult
    from backscan.scanner.search.spaces import Space

NAME = "pairwise"


def pattern_space(examination: Examination) -> PatternSpace:
    """Patterns change the image, in the way that was chosen."""
    change = SPACES[examination.config.space]
    image = next(iter(examination.images_by_class.values()))
    largest = image.new_tensor(change.largest(tuple(image.shape[1:]))).unsqueeze(0)
    reduced = None if examination.reduced is None else _in_space(examination.reduced, examination.config)
    return PatternSpace(_in_space(examination.classifier, examination.config), largest, change.first_share, reduced)


def infer(pairs: Sequence[PairResult], searched: Searched, config: ScanConfig) -> tuple[Inference, ...]:
    """Whether the most extreme pair is abnormal among the others (XMK section 3.1.3)."""
    from backscan.scanner.inference.variants import infer_pairs

    space = SPACES[config.space].words.name
    return infer_pairs(pairs, config, searched.num_classes, detector=NAME, space=space, screen=searched.screen(NAME))


def _in_space(classifier: TorchClassifier, config: ScanConfig) -> Space:
    """The chosen space of a copy of the model."""
    return BoxedImage(classifier) if config.box else ClippedImage(classifier, SPACES[config.space])
