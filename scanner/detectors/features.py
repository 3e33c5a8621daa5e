"""The generalised detector of XMK section 5.2.3: patterns are added to features inside the model, equation (10).

An attack that replaces, blends or scales pixels is no common addition to the image, but often nearly one to what the
first convolution makes of it. Sizes are norms in the units of those features and mean nothing beside sizes of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backscan.scanner.detectors.base import PatternSpace

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.converters.cuts.split import Split
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.base import Examination, Searched
    from backscan.scanner.results import Inference, PairResult

NAME = "features"

# Largest size tried, in standard deviations of the features over all images. Two images are about the root of two
# apart, so a larger pattern hides what the image was; and unlike the features' own norm, the deviation is the same
# whatever constant the layer adds. In image space half of black-to-white is about as much.
_LARGEST_DEVIATION = 2.0
_FIRST_SHARE = 0.02


def pattern_space(examination: Examination) -> PatternSpace:
    """Patterns are added to what the first part of the model makes of the image."""
    from backscan.scanner.search.spaces import Features

    if examination.cut is None:
        raise RuntimeError(f"expected a model that is cut for the detector {NAME}, found none")
    largest = _LARGEST_DEVIATION * _deviations(examination, examination.cut)
    reduced = None if examination.reduced_cut is None else Features(examination.reduced_cut)
    return PatternSpace(Features(examination.cut), largest, _FIRST_SHARE, reduced)


def infer(pairs: Sequence[PairResult], searched: Searched, config: ScanConfig) -> tuple[Inference, ...]:
    """Whether the most extreme pair is abnormal among the others; says so when the model could not be cut."""
    if searched.cut is None:
        return (_without_cut(config),)
    from backscan.scanner.inference.variants import infer_pairs

    return infer_pairs(
        pairs, config, searched.num_classes, detector=NAME, space=searched.cut, screen=searched.screen(NAME)
    )


def _deviations(examination: Examination, cut: Split) -> Tensor:
    """Standard deviation of every feature over all images, [1, ...]; ones where no feature ever changes."""
    import torch

    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    with torch.no_grad():
        for images in examination.images_by_class.values():
            features = cut.front(images).double()
            count += len(features)
            total, squares = total + features.sum(dim=0), squares + features.square().sum(dim=0)
    deviations = (squares / count - (total / count).square()).clamp_min(0.0).sqrt().unsqueeze(0)
    return deviations if bool(deviations.any()) else torch.ones_like(deviations)


def _without_cut(config: ScanConfig) -> Inference:
    from backscan.scanner.results import Inference

    return Inference(
        detector=NAME,
        space="features",
        norm=config.norm,
        statistic=", ".join(config.statistics),
        inference=config.inference,
        num_pairs=0,
        values=(),
        null=None,
        source=None,
        target=None,
        p_value=None,
        calibrated_p_value=None,
        bootstrap_draws=0,
        detected=False,
        decides=False,
        remarks=("did not run: the model could not be cut, see what was not tested",),
    )
