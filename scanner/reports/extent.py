"""Which classes go where: one class to another, several or all to one, or each of many to another."""

from __future__ import annotations

import statistics

from backscan.scanner.reports.basis import deciding, rests_on_statistics
from backscan.scanner.reports.words import class_name, pair_name
from backscan.scanner.results import ScanResult, Verdict

# A pair is as near as the found one by these factors: of its size, and of the median of all pairs. Natural pairs to one
# target spread more, so that a model attacked from one class has hardly ever most of them that near.
_NEAR_FOUND, _FAR_BELOW_MEDIAN = 1.5, 0.5
_MOST = 0.5


def route_sentence(result: ScanResult) -> str:
    """What the found pattern does, as the sentence of a detection."""
    scattered, (several, of_all) = _scattered(result), _sources(result)
    target = class_name(result.model, result.target)
    if scattered:
        return f"Small patterns turn images of {scattered} classes into another class each."
    if several:
        everything = "both other classes" if of_all == 2 else f"all {of_all} other classes"
        which = everything if several == of_all else f"{several} of the {of_all} other classes"
        if _followers(result)[0]:
            return f"One small pattern turns images of {which} into {target}."
        return f"Small patterns turn images of {which} into {target}, each class by its own."
    return f"One small pattern turns images of {class_name(result.model, result.source)} into {target}."


def route(result: ScanResult) -> str:
    """The same as a cell: `cat (3) → dog (5)`, `8 of 9 classes → dog (5)`, `8 classes → another each`."""
    scattered, (several, of_all) = _scattered(result), _sources(result)
    if result.target is None:
        return ""
    if scattered:
        return f"{scattered} classes → another each"
    if several:
        return f"{several} of {of_all} classes → {class_name(result.model, result.target)}"
    return pair_name(result.model, result.source, result.target)


def _is_told(result: ScanResult) -> bool:
    return result.verdict is Verdict.BACKDOOR_DETECTED and rests_on_statistics(result)


def _scattered(result: ScanResult) -> int:
    """Classes that go to another class each; 0 where they do not."""
    conclusion = deciding(result)
    return len(conclusion.scattered) if conclusion and _is_told(result) else 0


def _sources(result: ScanResult) -> tuple[int, int]:
    """Classes that go to the target, and how many could; 0 where it is one class only."""
    followers = _followers(result)
    return followers if followers[0] else _as_near(result)


def _followers(result: ScanResult) -> tuple[int, int]:
    """Classes that follow the very pattern that was found, its own counted, and how many could."""
    replay = result.verification
    if replay is None or not _is_told(result) or replay.target != result.target or not replay.followers:
        return 0, 0
    return 1 + len(replay.followers), 1 + len(replay.collateral)


def _as_near(result: ScanResult) -> tuple[int, int]:
    """Classes of which patterns as small lead to the target, and how many could; 0 unless it is most of them.

    The least pattern of one class need not move another, so an attack from all classes can have no follower.
    """
    conclusion = deciding(result)
    if conclusion is None or not _is_told(result):
        return 0, 0
    pairs = [pair for pair in result.pairs if pair.detector == conclusion.detector and pair.size is not None]
    sizes = {pair.source: pair.size for pair in pairs if pair.target == result.target and pair.size is not None}
    if conclusion.source not in sizes:
        return 0, 0
    median = statistics.median(pair.size for pair in pairs if pair.size is not None)
    most = min(_NEAR_FOUND * sizes[conclusion.source], _FAR_BELOW_MEDIAN * median)
    near = sum(size <= most for size in sizes.values())
    return (near, len(sizes)) if near > 1 and near >= _MOST * len(sizes) else (0, 0)
