"""Why a search supports no verdict, whatever its p-values are, in a sentence that says what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from backscan.scanner.inference.statistics import FEWEST_BY_SPREAD
from backscan.scanner.results import OF_FEW_CLASSES, TRANSFERABILITY, PairStatus, TransferStatus, find_pair

if TYPE_CHECKING:
    from backscan.scanner.results import Inference, PairResult

# More pairs than this without a size leave too little to fit a null to (docs/contract.md, Optimisation).
_MOST_UNREACHED = 1 / 3
# Classes without which there are no other pairs, and images of each without which those of single images say nothing.
_FEWEST_CLASSES, _FEWEST_IMAGES = 3, 20
# Share of a class that is decided as another from which on the boundary between few classes leans.
_LEANS = 0.05
# It leans, too, where the target's clean images lead by so many times what the source's lead by, and that explains so
# much of how much shorter the way there is (on a logarithmic scale; of a linear model all of it).
_LEANS_TIMES, _EXPLAINED = 1.5, 0.8
# Classes of which none can be all the rest of what there is.
_NO_REST = 3


def without_p_value(inferences: Sequence[Inference]) -> str:
    """Why no detector gave a p-value that decides."""
    if inferences and not any(entry.decides for entry in inferences):
        return "no detector gave a p-value that decides, those chosen only inform: add --detector pairwise"
    return (
        "no detector gave a p-value, as the null needs pairs of several targets: add classes or images, or search more "
        "pairs (--targets, --pairs)"
    )


def doubts_of(pairs: Sequence[PairResult], inferences: Sequence[Inference]) -> tuple[str, ...]:
    """Why the search cannot support any verdict, each reason once; with several detectors each names its own."""
    by_detector: dict[str, list[Inference]] = {}
    tests_targets = any(entry.is_of_rates and entry.calibrated_p_value is not None for entry in inferences)
    for entry in inferences:
        if entry.part_of or (entry.decides and not entry.witnesses):
            by_detector.setdefault(entry.detector, []).append(entry)
    found = ((name, _doubt_of_detector(pairs, own, tests_targets=tests_targets)) for name, own in by_detector.items())
    named = (f"detector {name}: {doubt}" if len(by_detector) > 1 else doubt for name, doubt in found if doubt)
    return tuple(dict.fromkeys(named))


def _doubt_of_detector(
    pairs: Sequence[PairResult], inferences: Sequence[Inference], *, tests_targets: bool
) -> str | None:
    """Why one detector supports no verdict, or None; the last argument as of `doubt_of`.

    Where one of its statistics has a null and another has none, the first one judges: the other has p = 1, or no p.
    """
    doubts = [doubt_of(pairs, entry, tests_targets=tests_targets) for entry in inferences]
    if any(entry.statistic in OF_FEW_CLASSES for entry in inferences):
        return next(filter(None, doubts), None)  # without a null that one could have and another lack
    return None if None in doubts else doubts[0]


def doubt_of(pairs: Sequence[PairResult], inference: Inference, *, tests_targets: bool = True) -> str | None:
    """Why one conclusion supports no verdict, or None.

    Args:
        pairs: Every pair of every detector.
        inference: The conclusion.
        tests_targets: Whether a detector tests whole targets beside it. By the spread of the others, at the boundary of
            a null, a single pair is seen, but pairs that lead to one target hide each other: that alone clears nothing.
    """
    if inference.is_of_rates:  # no sizes, and no p-value where there is too little to compare
        return None
    if inference.statistic in OF_FEW_CLASSES:
        own = [pair for pair in pairs if pair.detector == inference.detector]
        return _doubt_of_transfers(own) or _doubt_of_one_way(own, inference)
    counting = [pair for pair in pairs if pair.detector == inference.detector and pair.status.counts]
    classes = {pair.source for pair in counting} | {pair.target for pair in counting}
    if len(classes) < _FEWEST_CLASSES:
        return (
            f"expected at least {_FEWEST_CLASSES} classes with enough images, found {len(classes)}: "
            "the null needs other pairs to compare with; add images, or pairs where --pairs names few"
        )
    unreached = [pair for pair in counting if pair.status is not PairStatus.REACHED]
    if len(unreached) > _MOST_UNREACHED * len(counting):
        return (
            f"{len(unreached)} of {len(counting)} pairs did not reach the goal rate: {unreached[0].status.explanation}"
        )
    status = "reached" if inference.null is None else inference.null.status
    num_values = sum(value is not None for row in inference.values for value in row)
    is_by_spread = status == "boundary" and num_values >= FEWEST_BY_SPREAD
    if status == "reached" or (is_by_spread and tests_targets):
        return None
    return (
        f"the null distribution could not be fitted ({status}): "
        "the pairs differ too little or are too few; add classes, images, or pairs where --pairs names few"
    )


def _doubt_of_transfers(pairs: Sequence[PairResult]) -> str | None:
    """Why the patterns of single images support no verdict, or None."""
    measured = [pair for pair in pairs if pair.transfer is not None]
    few = [pair for pair in pairs if pair.transfer is None or pair.transfer.status is TransferStatus.FEW_IMAGES]
    if few or not measured:
        where = f" of class {few[0].source} or {few[0].target}" if few else ""
        return (
            f"expected at least {_FEWEST_IMAGES} images of every class that are decided as it, found fewer{where}: "
            f"add images, {_FEWEST_IMAGES * 5 // 4} a class or more, as a fifth is held out"
        )
    lost = [pair for pair in measured if pair.transfer and pair.transfer.status is TransferStatus.LIMIT]
    if not lost:
        return None
    return (
        f"too few descents of single images between class {lost[0].source} and class {lost[0].target} arrive within "
        "the size limit, so that their patterns cannot be compared: raise --max-size, or pass other images"
    )


def may_lean(pairs: Sequence[PairResult], inference: Inference) -> bool:
    """Whether all that keeps a conclusion about few classes in doubt is that the boundary may lean by nature."""
    own = [pair for pair in pairs if pair.detector == inference.detector]
    return _doubt_of_transfers(own) is None and _doubt_of_one_way(own, inference) is not None


def _doubt_of_one_way(pairs: Sequence[PairResult], inference: Inference) -> str | None:
    """What else than a planted shortcut makes a way shorter than the way back, if a detection rests on it; or None."""
    if not inference.detected:
        return None
    source, target = inference.source, inference.target
    there, back = find_pair(pairs, inference.key), find_pair(pairs, (inference.detector, target, source))
    found = f"the way from class {source} to class {target} is far shorter than the way back"
    if there is None or back is None or there.clean_margin is None or back.clean_margin is None:
        return f"{found}, but what clean images explain of that is not known: scan both ways, with this version"
    if told := _leaning(inference, there, back):
        return f"{told}, so that a shorter way there is no sign of an attack: {_ADVICE}"
    if len({label for pair in pairs for label in (pair.source, pair.target)}) < _NO_REST:
        return (
            f"{found}, as a planted shortcut makes it, but also one class against all the rest by nature, and of two "
            f"classes nothing tells which: {_ADVICE}"
        )
    return None


_ADVICE = (
    "look whether the pattern is something that only an attacker would put there, pass images that the model decides "
    "rightly, or judge where it comes from"
)


def _leaning(inference: Inference, there: PairResult, back: PairResult) -> str | None:
    """That the boundary leans towards the source, whose images are then near without an attack; or None."""
    source, target = inference.source, inference.target
    rate = there.initial_rate or 0.0
    if rate > _LEANS:
        return f"the model decides {rate:.0%} of class {source} as class {target} without any pattern"
    margin, margin_back = there.clean_margin or 0.0, back.clean_margin or 0.0
    if margin_back < _LEANS_TIMES * margin:
        return None
    if margin > 0.0 and math.log(margin_back / margin) < _EXPLAINED * math.log(_times_shorter(inference, there, back)):
        return None
    return (
        f"without any pattern class {target} leads over class {source} by {margin_back:.3g} on its images, and class "
        f"{source} by {margin:.3g} on its own (log posterior)"
    )


def _times_shorter(inference: Inference, there: PairResult, back: PairResult) -> float:
    """How many times shorter the way there is, by what the conclusion compares."""
    if inference.statistic == TRANSFERABILITY and there.transfer is not None:
        sizes = there.transfer.back_size, there.transfer.own_size
    else:
        sizes = back.size, there.size
    return sizes[0] / sizes[1] if sizes[0] and sizes[1] else math.inf
