"""Between steps 9 and 10: what a pass costs on this model, and how long the whole scan will take by that."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from backscan.converters.sandbox.clock import clock, now
from backscan.scanner.detectors import DETECTORS, searching
from backscan.scanner.inference.statistics import OF_SOME_PAIRS
from backscan.scanner.pipeline.estimate import Costs, Sizes
from backscan.scanner.search import screening

if TYPE_CHECKING:
    from backscan.scanner.pipeline.record import Cutting, Images, Run
    from backscan.scanner.process.parent import SettledModel

_TIMED_IMAGES = 48


def estimate_search(run: Run, settled: SettledModel, cutting: Cutting, images: Images, *, searches: int) -> Costs:
    """What the search will take by passes timed on this model; the observer is told that of the whole scan.

    Args:
        run: Options and observer.
        settled: The model.
        cutting: Where it is cut.
        images: Images of the search.
        searches: Searches that are to come, this one counted: one for each reading of the images and each repeat.
    """
    by_class = list(images.search().values())
    few = np.concatenate([each[:1] for each in by_class[:_TIMED_IMAGES]])
    speed = settled.measure_speed(few, threads=run.config.threads)
    num_classes = settled.facts.num_classes
    sizes = Sizes(num_classes, [len(each) for each in by_class], settled.facts.signature.input_shape)
    able = searching(run.config, cutting.tensor)
    chosen = tuple(name for name in run.config.detectors if name in able or name not in DETECTORS)
    config = replace(run.config, detectors=chosen) if chosen else run.config
    screened = screening.is_screened(run.config, num_classes, statistic=OF_SOME_PAIRS)
    costs = Costs.of(config, sizes, speed, screened=screened)
    time = clock()
    spent = now() - (time.began if time.is_limited else run.record.began)
    run.record.progress.estimate(
        spent + searches * costs.total, searches * costs.total, seconds_more=searches * costs.more
    )
    if run.record.estimate is None:
        run.record.estimate = spent + searches * costs.total
    return costs
