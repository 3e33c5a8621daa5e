"""Which images of a folder carry the pattern of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.aftercare.guard import Guard, threshold_for
from backscan.scanner.aftercare.subject import places_of
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import OptionError, ReportError
from backscan.scanner.results import Listed, ScanResult, ScreenResult

if TYPE_CHECKING:
    from backscan.scanner.aftercare.guard import Pixels
    from backscan.scanner.images.cleanset import CleanSet


def screen_images(
    images: CleanSet, report: ScanResult, clean: CleanSet, *, rate: float = 0.01, names: Sequence[str] = ()
) -> ScreenResult:
    """List the images that carry the pattern of a report.

    Args:
        images: Images to look through.
        report: A report with a recovered pattern on images.
        clean: Clean images, which the filter and the threshold are made from: with labels as `guard` draws them, else
            half of them each.
        rate: False-alarm rate on clean images.
        names: Names of the images; where there are not as many, their places stand in.

    Returns:
        What is listed, and how sure the threshold is.

    Raises:
        ReportError: the report holds no such pattern, or no threshold reaches the rate.
        OptionError: a rate that is none, or too few clean images.
    """
    if not 0 < rate < 1:
        raise OptionError(f"expected --false-alarms between 0 and 1, found {rate:g}")
    guard = Guard(report)
    shape = (guard.weights.shape[0], guard.weights.shape[1], guard.weights.shape[2])
    others = images.fit_to(shape)
    if len(clean.images) < 4:
        raise OptionError(f"expected at least 4 clean images with --data, found {len(clean.images)}: add some")
    making, setting = _parts(clean.fit_to(shape), report)
    guard = Guard(report, making)
    found = threshold_for(guard.pattern_score(setting), rate)
    if found is None:
        raise ReportError(
            f"expected a threshold that at most {rate:.2%} of the clean images exceed, found none: the pattern is too "
            "much like them"
        )
    scores = guard.pattern_score(others.images)
    order = np.argsort(-scores, kind="stable")
    above = [int(place) for place in order if scores[place] > found.value]
    known = names if len(names) == len(scores) else [f"image {place}" for place in range(len(scores))]
    return ScreenResult(
        model_sha256=report.model.sha256,
        source=guard.planted.found.source,
        target=guard.planted.found.target,
        num_images=len(scores),
        threshold=found.value,
        rate=rate,
        alarms_on_clean=found.alarms,
        num_clean=found.num_images,
        interval=found.interval,
        extrapolated=found.extrapolated,
        listed=tuple(Listed(place, known[place], round(float(scores[place]), 4)) for place in above),
    )


def _parts(clean: CleanSet, report: ScanResult) -> tuple[Pixels, Pixels]:
    """Images that make the filter, and images that set the threshold.

    With labels they are those of `guard`, so that one refuses a threshold where the other does; without, as no model is
    open to decide what images are, every second image.
    """
    num_classes = report.model.num_classes
    if clean.labels is not None and num_classes is not None:
        config = ScanConfig.from_dict(report.config)
        drawn = clean.draw(
            clean.labels, images_per_class=config.images_per_class, seed=config.seed, num_classes=num_classes
        )
        if drawn.optimise:
            return clean.images[places_of(drawn.optimise)], clean.images[places_of(drawn.held_out)]
    return clean.images[::2], clean.images[1::2]
