"""The detectors that search once per target class, beside the pairs, or alone where there are no images."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from backscan.converters.sandbox.clock import clock, keeping, now
from backscan.scanner.config import PAIRS_IN_SPACES, SMALL_MASKS
from backscan.scanner.detectors import RATE_DETECTORS, Searched, conclude, searching_targets
from backscan.scanner.detectors.targets import RateDetector, TargetDetector
from backscan.scanner.errors import TimeUpError
from backscan.scanner.images.candidates import candidate, given_normalisation
from backscan.scanner.inference.verdict import dependence_reason
from backscan.scanner.pipeline import spending
from backscan.scanner.pipeline.estimate import NO_COSTS, Costs
from backscan.scanner.pipeline.preparation import graph_findings
from backscan.scanner.pipeline.record import Concluded, Stop
from backscan.scanner.results import TargetResult, Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.scanner.pipeline.record import Run
    from backscan.scanner.process.parent import OpenedModel, SettledModel
    from backscan.scanner.results import PairResult

_NO_IMAGES = "no images were given, so no class pair was searched: pass --data with some ordinary images of each class"
_NOISE_IMAGES = 32
_MOST_MASKS = 12
# Classes times pixels up to which a scan without images searches margins unasked: seconds for a small model.
_MOST_VALUES_UNASKED = 500_000


def search_targets(
    run: Run,
    settled: SettledModel,
    detectors: Sequence[str],
    images_by_class: Mapping[int, NDArray[np.float32]],
    costs: Costs = NO_COSTS,
    pairs: Sequence[PairResult] = (),
) -> tuple[TargetResult, ...]:
    """What those of the detectors find that search target classes, as far as the time allows.

    Args:
        run: Options and record.
        settled: The model.
        detectors: Names of those that were chosen.
        images_by_class: Images of the search.
        costs: What each is estimated to take, and so of the time that is left gets in its turn.
        pairs: Class pairs that were searched before.
    """
    results: list[TargetResult] = []
    config, num_classes = run.config, settled.facts.num_classes
    num_wanted = num_classes if config.targets is None else len(set(config.targets))
    for name in detectors:
        detector = searching_targets(name)
        if detector is None or (detector.needs_images and len(images_by_class) < 2):
            continue
        searched: list[TargetResult] = []
        left, started = spending.for_search(), now()
        seconds = None if left is None else left * costs.shares.get(name, 1.0)
        found = _with_patterns(detector, pairs, num_classes)
        with run.record.phase("targets"), _within_time(run):
            settled.search_targets(
                name, images_by_class, config, seconds=seconds, on_target=searched.append, found=found
            )
        # A detector that lacks images ends at once and finds fewer too, which is no doing of the clock.
        is_late = seconds is not None and now() - started >= seconds
        if len(searched) < num_wanted and is_late:
            run.record.out_of_time, missing = True, num_wanted - len(searched)
            took = costs.by_detector.get(name, 0.0) * missing / num_wanted
            run.record.leave(name, "target class", missing, planned=num_wanted, seconds=took)
            run.record.leave_out(
                f"{missing} of {num_wanted} target classes with detector {name}: the time was up, so a backdoor that "
                "leads to them may not have been noticed"
            )
        elif name in RATE_DETECTORS and is_late:
            run.record.out_of_time = True
            run.record.leave_out(f"some of what detector {name} passes for all targets: the time was up")
        unreached = sum(entry.value is None for entry in searched) if name == SMALL_MASKS else 0
        if unreached:
            run.record.leave_out(
                f"small masks towards {unreached} of {num_wanted} target classes: none was found in as many steps as "
                "others need"
            )
        results += sorted(searched, key=lambda result: result.target)
    return tuple(results)


def lightened(found: Sequence[TargetResult], shown: Collection[int]) -> tuple[TargetResult, ...]:
    """Masks of the targets that stand out most and of those that are shown, of the others their counts alone.

    A mask with what stands behind it is a photograph of its own: those of seventy classes would be 100 MB of report.

    Args:
        found: Results of all detectors.
        shown: Target classes whose pattern the report shows.
    """
    masks = sorted((math.inf if each.value is None else each.value, each.target) for each in found if _is_mask(each))
    kept = {target for _, target in masks[:_MOST_MASKS]} | set(shown)
    return tuple(
        replace(each, support=each.support.without_content())
        if _is_mask(each) and each.support is not None and each.target not in kept
        else each
        for each in found
    )


def _is_mask(entry: TargetResult) -> bool:
    return entry.detector == SMALL_MASKS


def _with_patterns(
    detector: TargetDetector | RateDetector, pairs: Sequence[PairResult], num_classes: int
) -> Sequence[PairResult]:
    """The pairs on images whose patterns a detector works with."""
    if not isinstance(detector, TargetDetector) or detector.chosen_patterns is None:
        return ()
    return detector.chosen_patterns([pair for pair in pairs if pair.detector == PAIRS_IN_SPACES], num_classes)


@contextmanager
def _within_time(run: Run) -> Iterator[None]:
    """End the process that is still at it when only the time for what follows is left; what it told stays."""
    try:
        with keeping(spending.ending(clock())):
            yield
    except TimeUpError:
        run.record.out_of_time = True


def judge_without_images(run: Run, opened: OpenedModel) -> Stop:
    """What can be said of a model alone: its switches, and the detectors that need no images; they decide nothing."""
    with run.record.phase("graph"):
        graph = run.record.take(
            graph_findings(
                run, opened.find_switches(seed=run.config.seed, seconds=clock().seconds(spending.GRAPH_SHARE))
            )
        )
    chosen = tuple(name for name in run.config.detectors if _needs_no_images(name))
    num_values = opened.facts.num_classes * math.prod(opened.facts.signature.input_shape)
    if opened.facts.without_gradient:
        return Stop(Verdict.INCONCLUSIVE, (opened.facts.without_gradient, _NO_IMAGES))
    if dependence_reason(graph.findings):
        run.record.leave_out("the classes on random images: the answers depend on the call")
    elif chosen or num_values <= _MOST_VALUES_UNASKED:
        _search_alone(run, opened, chosen or ("head", "margin"))
    else:
        _search_alone(run, opened, ("head",))
        run.record.leave_out(
            f"margins of the {opened.facts.num_classes} classes on random images, which take long on a model of this "
            "size: --detector margin searches them"
        )
    return Stop(Verdict.INCONCLUSIVE, (_NO_IMAGES,))


def _needs_no_images(detector: str) -> bool:
    known = searching_targets(detector)
    return known is not None and not known.needs_images


def _search_alone(run: Run, opened: OpenedModel, detectors: tuple[str, ...]) -> None:
    """Search target classes on random images, unless the copy is not the model in the file."""
    given = given_normalisation(run.config, opened.facts.signature.input_shape[0])
    settled = opened.settle(candidate("none") if given is None else given[1])
    obstacle = _difference_on_noise(run, settled)
    if obstacle:
        run.record.leave_out(f"the classes on random images: {obstacle}")
        return
    targets = search_targets(run, settled, detectors, {})
    searched = run.record.take(Searched(detectors, opened.facts.num_classes, targets=targets))
    run.record.take(Concluded(conclude(searched, run.config)))


def _difference_on_noise(run: Run, settled: SettledModel) -> str:
    """Why the torch copy is not the model in the file, judged on random images; empty if it is."""
    shape = (_NOISE_IMAGES, *settled.facts.signature.input_shape)
    noise = np.random.default_rng(run.config.seed).random(shape, dtype=np.float32)
    with run.record.phase("parity"):
        parity = run.record.take(settled.compare(noise, real_images=False))
    return "" if parity.passed else parity.reason
