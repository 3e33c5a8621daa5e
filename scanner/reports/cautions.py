"""What speaks against a planted pattern where one was detected: each a function from the result to a sentence.

They change no verdict. Two classes may truly look alike, and then the way back is about as near, the source is near
all classes, the arrangement of the pattern matters little, or other classes follow it too.
"""

from __future__ import annotations

from collections.abc import Callable

from backscan.scanner.reports.words import class_name, listed, number, percent
from backscan.scanner.results import ScanResult

_NEAR_REVERSE = 1.5
# Of the victims of benchmarks/accuracy/report.py whose attack the default finds none has a source that near.
_NEAR_ALL = 2 / 3
_MUCH_SHUFFLED = 0.25
_MUCH_COLLATERAL = 0.5
_MOST_NAMED = 3


def cautions(result: ScanResult) -> list[str]:
    """The sentences that hold of a detected pair."""
    return [sentence for caution in CAUTIONS if (sentence := caution(result))]


def near_reverse(result: ScanResult) -> str:
    """The reversed pair is small too: natural similarity goes both ways, a backdoor of one class does not."""
    controls = result.controls
    if controls is None or controls.size is None or controls.reversed_size is None:
        return ""
    if controls.reversed_size >= _NEAR_REVERSE * controls.size:
        return ""
    near = "about as near" if controls.size < _NEAR_REVERSE * controls.reversed_size else "nearer still"
    return (
        f"the reversed pair is {near} ({number(controls.reversed_size)} for {number(controls.size)}), as between "
        "classes that truly look alike; a backdoor of one class works one way"
    )


def near_source(result: ScanResult) -> str:
    """The source is near every class, as a thin digit 1 is, so that its nearest is near without any attack."""
    controls = result.controls
    if controls is None or controls.source_median_size is None or controls.median_size is None:
        return ""
    if not any((each.decides or each.part_of) and each.statistic == "plain" for each in result.detectors):
        return ""  # the statistics that decide take that into account
    if controls.source_median_size >= _NEAR_ALL * controls.median_size:
        return ""
    adjusted = "--statistic source-adjusted --statistic margin-contrast"
    how = f"scanner check MODEL --screen off {adjusted}" if result.screens else f"scanner infer REPORT.json {adjusted}"
    return (
        f"{class_name(result.model, controls.source)} is near all classes (its median pair "
        f"{number(controls.source_median_size)}, that of all {number(controls.median_size)}), so its nearest is near "
        f"without any attack; to compare each pair with its own source: {how}"
    )


def works_shuffled(result: ScanResult) -> str:
    """Pixels of the pattern in any order change the decision too."""
    replay = result.verification
    if replay is None or replay.rate_shuffled <= _MUCH_SHUFFLED:
        return ""
    return (
        f"shuffled, the pattern still changes {percent(replay.rate_shuffled)} of the images: part of its effect is its "
        "size, not its arrangement"
    )


def many_follow(result: ScanResult) -> str:
    """Most images of other classes follow the pattern."""
    replay = result.verification
    above = [each for each in replay.collateral if each.rate > _MUCH_COLLATERAL] if replay else []
    if replay is None or not above:
        return ""
    names = [class_name(result.model, each.source) for each in above]
    others = len(replay.collateral)
    share = f"all {others} other classes" if len(names) == others else f"{len(names)} of {others} other classes"
    which = listed(names) if len(names) <= _MOST_NAMED else share
    return (
        f"it sends most images of {which} to the target too: the attack is from several classes, or the target is "
        "near to all"
    )


CAUTIONS: tuple[Callable[[ScanResult], str], ...] = (near_reverse, near_source, works_shuffled, many_follow)
"""Everything that is looked at, in the order of reports; each gives an empty text where it has nothing to say."""
