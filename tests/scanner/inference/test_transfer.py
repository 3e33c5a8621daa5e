"""Expected transferability judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from backscan.scanner.config import ScanConfig
from backscan.scanner.inference.agreement import combined
from backscan.scanner.inference.transfer import FLOOR, NATURAL_SPREAD, infer_transfers, one_way, p_of
from backscan.scanner.inference.verdict import judge
from backscan.scanner.results import PairResult, PairStatus, Trajectory, Transfer, TransferStatus, Verdict


def transfer(rate: float, error: float, own: float = 1.0) -> Transfer:
    return Transfer(TransferStatus.FOUND, 30, rate, error, own, 2.0)


def pair(source: int, target: int, each: Transfer | None) -> PairResult:
    return PairResult(
        "transferability",
        source,
        target,
        PairStatus.REACHED,
        1.0,
        0.0,
        0.8,
        3,
        Trajectory((), ()),
        transfer=each,
        clean_margin=5.0,
    )


def concluded(*pairs: PairResult, num_classes: int = 2, config: ScanConfig | None = None):
    return both(*pairs, num_classes=num_classes, config=config)[0]


def both(*pairs: PairResult, num_classes: int = 2, config: ScanConfig | None = None):
    return infer_transfers(pairs, config or ScanConfig(), num_classes, detector="transferability")


@pytest.mark.parametrize(("rate", "error"), [(0.6, 0.05), (0.5, 0.1), (0.2, 0.04)])
def test_p_is_the_normal_tail(rate: float, error: float) -> None:
    assert p_of(transfer(rate, error)) == pytest.approx(norm.sf((rate - 0.5) / error))


def test_without_error_it_is_above_one_half_or_not() -> None:
    assert p_of(transfer(1.0, 0.0)) == 0.0
    assert p_of(transfer(0.5, 0.0)) == 0.5
    assert p_of(transfer(0.0, 0.0)) == 1.0


def others() -> list[PairResult]:
    """Pairs of a third class, which show nothing."""
    quiet = transfer(0.0, 0.01, 2.0)
    return [pair(source, target, quiet) for source, target in ((0, 2), (2, 0), (1, 2), (2, 1))]


def judged(*pairs: PairResult):
    """What is said of a pair that stands out by either test."""
    conclusions = both(*pairs, num_classes=3)
    deciding = min(conclusions, key=lambda each: each.calibrated_p_value or 1.0)
    assert deciding.detected
    return judge(pairs, conclusions, deciding, None, significance=0.05, published=False)


def test_a_detection_waits_for_the_replay_alone() -> None:
    told = judged(pair(0, 1, transfer(0.95, 0.01)), pair(1, 0, transfer(0.0, 0.01)), *others())
    assert told.verdict is Verdict.INCONCLUSIVE
    assert "it was not replayed" in told.reasons[0]


def test_a_boundary_that_leans_is_no_detection() -> None:
    leaning = replace(pair(0, 1, transfer(0.95, 0.01)), initial_rate=0.07)
    told = judged(leaning, pair(1, 0, transfer(0.0, 0.01)), *others())
    assert told.verdict is Verdict.INCONCLUSIVE
    assert "decides 7% of class 0 as class 1 without any pattern" in told.reasons[0]


@pytest.mark.parametrize(
    ("own", "margin", "margin_back", "leans"),
    [
        (1.0, 2.0, 4.0, True),  # of a linear model the margins explain all of it
        (1.0, 4.0, 2.0, False),
        (0.2, 2.0, 4.0, False),  # ten times shorter, of which twice is explained
        (1.0, 2.0, 2.9, False),
        (0.2, 0.0, 4.0, True),
    ],
)
def test_a_boundary_leans_as_far_as_margins_explain_the_way(own, margin, margin_back, leans) -> None:
    there = replace(pair(0, 1, transfer(0.95, 0.01, own)), clean_margin=margin)
    back = replace(pair(1, 0, transfer(0.0, 0.01)), clean_margin=margin_back)
    reason = judged(there, back, *others()).reasons[0]
    assert (f"class 1 leads over class 0 by {margin_back:g} on its images" in reason) is leans


@pytest.mark.parametrize(("margin_back", "leans"), [(5.0, True), (2.0, False)])
def test_a_common_pattern_five_times_smaller_leans_as_far_as_margins_are(margin_back, leans) -> None:
    there = replace(way(0, 1, 1.0, 2.0, 2.0), clean_margin=1.0)
    back = replace(way(1, 0, 5.0, 2.0, 2.0), clean_margin=margin_back)
    assert ("leads over class 0" in judged(there, back, *others()).reasons[0]) is leans


@pytest.mark.parametrize("missing", [0, 1])
def test_without_margins_or_the_way_back_nothing_is_detected(missing) -> None:
    ways = [pair(0, 1, transfer(0.95, 0.01)), pair(1, 0, transfer(0.0, 0.01))]
    ways[missing] = replace(ways[missing], clean_margin=None)
    assert "what clean images explain of that is not known" in judged(*ways, *others()).reasons[0]
    told = judged(replace(ways[0], clean_margin=5.0), *others())
    assert "scan both ways" in told.reasons[0]


def test_of_two_classes_one_may_be_all_the_rest() -> None:
    """A clean network that tells one digit from all others is left easily, and not entered easily."""
    told = judged(pair(0, 1, transfer(0.95, 0.01)), pair(1, 0, transfer(0.0, 0.01)))
    assert told.verdict is Verdict.INCONCLUSIVE
    assert "one class against all the rest by nature" in told.reasons[0]


def test_a_single_test_keeps_the_floor_and_counts_once() -> None:
    sure, unknown = both(replace(pair(0, 1, transfer(1.0, 0.0)), size=None))
    assert (sure.calibrated_p_value, unknown.p_value) == (FLOOR, None)
    near = transfer(0.5 + 1.8 * 0.05, 0.05)
    alone, _ = both(replace(pair(0, 1, near), size=None))
    beside, _ = both(pair(0, 1, near), way(1, 0, 1.0, 1.0, 1.0))
    assert alone.detected
    assert not beside.detected, "half of the threshold, and two pairs"


def test_pairs_that_do_not_count_are_not_compared() -> None:
    confused = replace(pair(0, 1, transfer(1.0, 0.0)), status=PairStatus.ALREADY_CONFUSED, size=None)
    found = concluded(confused, pair(1, 0, transfer(0.1, 0.05)))
    assert (found.source, found.target, found.num_pairs) == (1, 0, 1)


def test_the_number_of_pairs_counts_and_nothing_is_below_the_floor() -> None:
    found = concluded(pair(0, 1, transfer(0.62, 0.05)), pair(1, 0, transfer(0.1, 0.05)))
    assert found.p_value == pytest.approx(2 * norm.sf(2.4))
    assert found.calibrated_p_value == pytest.approx(max(FLOOR / 2, 2 * norm.sf(2.4)))
    assert (found.source, found.target, found.num_pairs, found.detected) == (0, 1, 2, True)
    sure = concluded(pair(0, 1, transfer(1.0, 0.0)), pair(1, 0, transfer(0.1, 0.05)))
    assert sure.calibrated_p_value == FLOOR / 2
    assert sure.p_value < 1e-300
    assert not concluded(pair(0, 1, transfer(0.55, 0.05)), pair(1, 0, transfer(0.1, 0.05))).detected


def test_among_equals_the_shortest_way_is_named() -> None:
    """A pattern of one source moves the others as well, but needs more there."""
    found = concluded(pair(0, 1, transfer(1.0, 0.0, own=0.9)), pair(2, 1, transfer(1.0, 0.0, own=0.4)), num_classes=3)
    assert (found.source, found.target) == (2, 1)


def test_what_was_not_measured_does_not_count() -> None:
    lost = Transfer(TransferStatus.FEW_IMAGES)
    found = concluded(pair(0, 1, transfer(0.7, 0.05)), pair(1, 0, lost), pair(0, 2, None), num_classes=3)
    assert found.num_pairs == 1
    assert found.values[1][0] is None
    nothing = concluded(pair(0, 1, lost), pair(1, 0, lost))
    assert (nothing.p_value, nothing.calibrated_p_value, nothing.source, nothing.detected) == (None, None, None, False)


def way(source: int, target: int, size: float, own: float, own_back: float) -> PairResult:
    each = Transfer(TransferStatus.FOUND, 30, 0.0, 0.01, own, own_back)
    return replace(pair(source, target, each), size=size)


def test_a_way_is_judged_by_the_way_back_and_by_half_of_what_single_images_explain() -> None:
    there, back = way(0, 1, 1.0, 0.5, 0.8), way(1, 0, 3.0, 0.8, 0.5)
    expected = np.log(3.0) - np.log(0.8 / 0.5) / 2
    # The mean of how much smaller the pattern is, and of how much more of it is common.
    commonality = (0.5 / 1.0) / (0.8 / 3.0)
    assert expected == pytest.approx((np.log(3.0) + np.log(commonality)) / 2)
    assert one_way([there, back]) == pytest.approx({(0, 1): expected, (1, 0): -expected})
    _, found = both(there, back)
    assert (found.statistic, found.source, found.target) == ("one-way", 0, 1)
    assert found.p_value == pytest.approx(2 * norm.sf(expected / NATURAL_SPREAD))
    assert found.detected
    assert found.values == ((None, pytest.approx(expected)), (pytest.approx(-expected), None))


def test_classes_as_near_as_single_images_are_no_sign() -> None:
    """A class that all images leave easily is near all others one way, without an attack."""
    _, found = both(way(0, 1, 1.0, 0.5, 1.5), way(1, 0, 2.0, 1.5, 0.5))
    assert not found.detected


def test_a_way_back_at_a_limit_is_no_less_far_and_a_way_there_at_one_has_no_value() -> None:
    there = way(0, 1, 1.0, 0.5, 0.5)
    back = replace(way(1, 0, 4.0, 0.5, 0.5), status=PairStatus.SIZE_LIMIT)
    assert one_way([there, back]) == pytest.approx({(0, 1): np.log(4.0)})
    assert one_way([replace(there, status=PairStatus.ALREADY_CONFUSED, size=None), back]) == {}
    unknown = replace(there, transfer=Transfer(TransferStatus.LIMIT))
    assert one_way([unknown, way(1, 0, 2.0, 0.5, 0.5)]).keys() == {(1, 0)}
    assert both(replace(there, transfer=None))[1].p_value is None


def one_way_alone(size: float, significance: float = 0.05):
    """What is said of a pair that only the second test sees, and of the p-values behind it."""
    pairs = (way(0, 1, 1.0, 1.0, 1.0), way(1, 0, size, 1.0, 1.0), *others())
    conclusions = infer_transfers(
        pairs, replace(ScanConfig(), significance=significance), 3, detector="transferability"
    )
    return judge(pairs, conclusions, conclusions[1], None, significance=significance, published=False)


def test_the_floor_alone_keeps_a_way_from_being_a_detection() -> None:
    assert "no smaller p can be told" in one_way_alone(6.0, 0.02).reasons[0]
    assert one_way_alone(2.2, 0.02).verdict is Verdict.NOT_DETECTED


def test_an_ordinary_way_is_told_as_such() -> None:
    [told, *_] = one_way_alone(1.5).reasons
    assert told.startswith(
        "the pattern from class 0 to class 1, of all pairs the one that is smallest beside the way back"
    )


def test_a_way_decides_by_itself_beside_detectors_of_many_classes() -> None:
    """Its floor holds for the model: no number of other tests is applied on top."""
    sizes = replace(both(way(0, 1, 1.0, 1.0, 1.0))[1], detector="pairwise", statistic="plain", calibrated_p_value=0.5)
    more = replace(sizes, detector="features")
    ways = both(way(0, 1, 1.0, 1.0, 1.0), way(1, 0, 6.0, 1.0, 1.0))
    told = {(each.detector, each.statistic): each for each in combined((sizes, more, *ways), (), (), ScanConfig())}
    assert told["pairwise", "pairs-together"].decides
    assert all(told["transferability", each.statistic].decides for each in ways)
    assert all(told["transferability", each.statistic].part_of is None for each in ways)
