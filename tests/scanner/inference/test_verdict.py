"""From conclusions and a replay to a verdict: every way to each of the verdicts, and the borders between them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from backscan.scanner.inference.verdict import (
    Judgement,
    candidates_for_replay,
    corrected_p_value,
    deciding_conclusion,
    judge,
    with_findings,
)
from backscan.scanner.results import (
    OF_TARGETS_TOGETHER,
    TARGET_RATE,
    CollateralDamage,
    Inference,
    PairResult,
    PairStatus,
    Trajectory,
    Verdict,
    Verification,
    Witness,
)
from tests.scanner.reports import examples

NUM_CLASSES = 10
FOUND: Inference = replace(examples.detected(10).detectors[0], calibrated_p_value=0.01, p_value=1e-9)
REPLAY: Verification = examples.detected(10).verification


def pairs(num_classes: int = NUM_CLASSES, **others: PairStatus) -> list[PairResult]:
    """All pairs reached, but for those named like `s1t2`."""
    return [
        PairResult("pairwise", s, t, others.get(f"s{s}t{t}", PairStatus.REACHED), 1.0, 0.0, 0.8, 9, Trajectory((), ()))
        for s in range(num_classes)
        for t in range(num_classes)
        if s != t
    ]


def first(count: int, status: PairStatus) -> dict[str, PairStatus]:
    return {f"s{pair.source}t{pair.target}": status for pair in pairs()[:count]}


def verdict(inferences=(FOUND,), verification=REPLAY, *, significance=0.05, published=False, of=None):
    deciding = deciding_conclusion(inferences, verification, published=published)
    return judge(of or pairs(), inferences, deciding, verification, significance=significance, published=published)


def test_abnormal_and_confirmed_is_a_detection():
    judgement = verdict()
    assert judgement.verdict is Verdict.BACKDOOR_DETECTED
    assert re.search(r"class 1 to class 9.*p = 0.01", judgement.reasons[0])
    assert "77% of 30 held-out images change to class 9, 2% with the pattern shuffled" in judgement.reasons[2]


def test_abnormal_but_not_confirmed_is_inconclusive():
    judgement = verdict(verification=replace(REPLAY, confirmed=False, reason="the rates differ"))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reasons[0].endswith("the original file does not confirm it: the rates differ")


def test_abnormal_without_a_replay_is_inconclusive():
    judgement = verdict(verification=None)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "not replayed on the original file" in judgement.reasons[0]


@pytest.mark.parametrize(("p_value", "expected"), [(0.05, Verdict.BACKDOOR_DETECTED), (0.0501, Verdict.NOT_DETECTED)])
def test_the_threshold_itself_detects(p_value, expected):
    """The calibrated p-value is a multiple of 1 / (B + 1), so that 0.05 itself has to be reachable."""
    assert verdict([replace(FOUND, calibrated_p_value=p_value)]).verdict is expected


def test_an_ordinary_pair_is_not_detected_whatever_the_replay_says():
    judgement = verdict([replace(FOUND, calibrated_p_value=0.4)])
    assert judgement.verdict is Verdict.NOT_DETECTED
    assert "not abnormal among the others (p = 0.4)" in judgement.reasons[0]


def test_power_is_told_where_nothing_was_found():
    ordinary = replace(FOUND, calibrated_p_value=0.4, detectable_size=0.625)
    assert (
        "of planted pairs whose smallest pattern has size 0.625 (L2) four in five would have been found"
        in verdict([ordinary]).reasons
    )
    assert len(verdict([replace(ordinary, detectable_size=None)]).reasons) == 1


@pytest.mark.parametrize("p_value", [0.01, 0.4])
def test_what_a_detector_that_only_informs_calls_abnormal_is_told_and_decides_nothing(p_value):
    deciding = replace(FOUND, calibrated_p_value=p_value)
    mask = replace(
        FOUND, detector="neural-cleanse", source=None, target=5, p_value=None, decides=False, anomaly_index=2.7
    )
    alone, beside = verdict([deciding]), verdict([deciding, replace(mask, detected=True)])
    hint = "detector neural-cleanse calls class 5 abnormal as a target (anomaly index 2.7); it only informs"
    assert beside == replace(alone, reasons=(*alone.reasons, hint))
    assert verdict([deciding, replace(mask, detected=False)]) == alone


def test_calibrated_decides_unless_published_is_asked_for():
    alarm = replace(FOUND, p_value=0.001, calibrated_p_value=0.3)
    assert verdict([alarm]).verdict is Verdict.NOT_DETECTED
    assert verdict([alarm], published=True).verdict is Verdict.BACKDOOR_DETECTED


def test_published_decides_without_a_calibration():
    assert verdict([replace(FOUND, calibrated_p_value=None)], published=True).verdict is Verdict.BACKDOOR_DETECTED
    assert verdict([replace(FOUND, calibrated_p_value=None)]).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("unreached", [PairStatus.SIZE_LIMIT, PairStatus.STEP_LIMIT])
@pytest.mark.parametrize(("count", "expected"), [(30, Verdict.BACKDOOR_DETECTED), (31, Verdict.INCONCLUSIVE)])
def test_more_than_a_third_unreached_is_inconclusive(unreached, count, expected):
    """30 of 90 are a third, not more."""
    judgement = verdict(of=pairs(**first(count, unreached)))
    assert judgement.verdict is expected
    if expected is Verdict.INCONCLUSIVE:
        assert judgement.reasons[0] == f"31 of 90 pairs did not reach the goal rate: {unreached.explanation}"


@pytest.mark.parametrize("left_out", [PairStatus.ALREADY_CONFUSED, PairStatus.NO_IMAGES])
def test_pairs_that_do_not_count_are_neither_reached_nor_unreached(left_out):
    assert verdict(of=pairs(**first(30, left_out))).verdict is Verdict.BACKDOOR_DETECTED
    # 60 pairs are left, so 21 of them are more than a third.
    statuses = first(51, PairStatus.SIZE_LIMIT) | first(30, left_out)
    judgement = verdict(of=pairs(**statuses))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reasons[0].startswith("21 of 60 pairs")


@pytest.mark.parametrize(("num_classes", "expected"), [(3, Verdict.BACKDOOR_DETECTED), (2, Verdict.INCONCLUSIVE)])
def test_two_classes_have_nothing_to_compare_with(num_classes, expected):
    judgement = verdict(of=pairs(num_classes))
    assert judgement.verdict is expected
    if expected is Verdict.INCONCLUSIVE:
        assert "expected at least 3 classes with enough images, found 2" in judgement.reasons[0]


def test_classes_count_by_the_pairs_that_count():
    """Classes 2 and up take part in no pair that counts."""
    alone = {"s0t1", "s1t0"}
    statuses = {f"s{p.source}t{p.target}": PairStatus.NO_IMAGES for p in pairs()}
    assert verdict(of=pairs(**{k: v for k, v in statuses.items() if k not in alone})).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("status", ["boundary", "failed"])
def test_a_null_that_was_not_fitted_is_inconclusive(status):
    unfitted = replace(FOUND, null=replace(FOUND.null, status=status), calibrated_p_value=0.4)
    judgement = verdict([unfitted])
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert f"could not be fitted ({status})" in judgement.reasons[0]
    informs = replace(unfitted, decides=False)
    assert verdict([FOUND, informs]).verdict is Verdict.BACKDOOR_DETECTED


def test_at_the_boundary_a_pair_may_be_detected_and_is_cleared_only_beside_a_test_of_targets():
    """The spread of the others shows one pair; many that lead to one target hide each other in it."""
    boundary = replace(FOUND, null=replace(FOUND.null, status="boundary"))
    assert verdict([boundary]).verdict is Verdict.BACKDOOR_DETECTED
    few = replace(boundary, values=FOUND.values[:2])
    assert verdict([few]).verdict is Verdict.INCONCLUSIVE
    ordinary = replace(boundary, calibrated_p_value=0.4)
    window = replace(FOUND, detector="window", statistic=TARGET_RATE, calibrated_p_value=0.6, null=None)
    assert verdict([ordinary], None).verdict is Verdict.INCONCLUSIVE
    assert verdict([ordinary, window], None).verdict is Verdict.NOT_DETECTED
    assert verdict([ordinary, replace(window, calibrated_p_value=None)], None).verdict is Verdict.INCONCLUSIVE
    assert verdict([replace(few, calibrated_p_value=1.0), window], None).verdict is Verdict.INCONCLUSIVE


def test_without_a_p_value_nothing_is_said():
    index_only = replace(FOUND, decides=False, anomaly_index=9.0)
    for conclusions in ([], [index_only]):
        judgement = verdict(conclusions)
        assert judgement.verdict is Verdict.INCONCLUSIVE
        assert "no detector gave a p-value" in judgement.reasons[0]


def test_several_tests_share_one_threshold():
    """CONTRACT, Statistics: p = min(1, m times the smallest of the m that decide); an index has no part in m."""
    conclusions = [
        replace(FOUND, calibrated_p_value=p, p_value=p / 10, decides=decides)
        for p, decides in ((0.5, True), (0.02, True), (0.6, True), (1e-6, False))
    ]
    conclusions.append(replace(FOUND, calibrated_p_value=None, p_value=0.9))
    assert corrected_p_value(conclusions[1], conclusions, published=False) == pytest.approx(0.06)
    assert corrected_p_value(conclusions[1], conclusions, published=True) == pytest.approx(4 * 0.002)
    assert verdict(conclusions).verdict is Verdict.NOT_DETECTED
    assert verdict(conclusions[1:]).verdict is Verdict.BACKDOOR_DETECTED


def test_a_corrected_p_value_is_a_probability():
    conclusion = replace(FOUND, calibrated_p_value=0.7)
    assert corrected_p_value(conclusion, [conclusion] * 2, published=False) == 1.0
    assert corrected_p_value(replace(conclusion, decides=False), [conclusion], published=False) is None


def test_the_deciding_one_has_the_smallest_deciding_p():
    floor = [replace(FOUND, calibrated_p_value=0.001, p_value=p, source=i) for i, p in enumerate((1e-5, 1e-9, 1e-9))]
    informs = replace(FOUND, calibrated_p_value=1e-9, decides=False)
    assert deciding_conclusion([informs, *floor], None, published=False) is floor[1]
    assert (
        deciding_conclusion([replace(floor[1], calibrated_p_value=0.002), floor[0]], None, published=False) is floor[0]
    )
    assert deciding_conclusion([floor[0], floor[1]], None, published=True) is floor[1]
    assert deciding_conclusion([informs], None, published=False) is None


def in_features(**changes: object) -> Inference:
    return replace(FOUND, detector="features", space="conv", **changes)


BOTH = [*pairs(), *(replace(pair, detector="features") for pair in pairs())]


def to_replay(inferences: list[Inference], of: list[PairResult] = BOTH) -> list[str]:
    found = candidates_for_replay(of, inferences, significance=0.05, published=False)
    return [f"{entry.detector} {entry.source}" for entry in found]


def test_what_is_replayed_is_significant_after_the_correction_in_order_and_once():
    second = in_features(calibrated_p_value=0.005)
    assert to_replay([FOUND, second]) == ["features 1", "pairwise 1"]
    assert to_replay([FOUND, in_features(calibrated_p_value=0.03)]) == ["pairwise 1"]
    assert to_replay([FOUND, replace(FOUND, statistic="other"), second]) == ["features 1", "pairwise 1"]
    assert to_replay([FOUND, replace(FOUND, source=4), second]) == ["features 1", "pairwise 1", "pairwise 4"]
    assert to_replay([replace(FOUND, calibrated_p_value=0.4), in_features(calibrated_p_value=0.3)]) == ["features 1"]
    assert to_replay([replace(FOUND, decides=False)]) == []


def test_what_a_detector_in_doubt_concludes_is_not_replayed():
    """More than a third of its pairs have no size, so its p-value means nothing; the other's still does."""
    unsure = [replace(pair, detector="features") for pair in pairs(**first(31, PairStatus.SIZE_LIMIT))]
    both = [FOUND, in_features(calibrated_p_value=0.001)]
    assert to_replay(both, [*pairs(), *unsure]) == ["pairwise 1"]
    assert to_replay([both[1]], unsure) == ["features 1"], "without any, the most extreme is shown"
    assert verdict(both, REPLAY, of=[*pairs(), *unsure]).verdict is Verdict.BACKDOOR_DETECTED
    ordinary = [replace(FOUND, calibrated_p_value=0.4), both[1]]
    judgement = verdict(ordinary, None, of=[*pairs(), *unsure])
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reasons[0].startswith("detector features: 31 of 90 pairs did not reach the goal rate")


def test_a_statistic_without_a_null_leaves_the_judgement_to_the_others_of_its_detector():
    without = replace(FOUND, statistic="other", calibrated_p_value=1.0, null=replace(FOUND.null, status="failed"))
    ordinary = replace(FOUND, calibrated_p_value=0.4)
    assert verdict([FOUND, without], REPLAY).verdict is Verdict.BACKDOOR_DETECTED
    assert verdict([ordinary, without], None).verdict is Verdict.NOT_DETECTED
    assert verdict([without], None).verdict is Verdict.INCONCLUSIVE
    judgement = verdict([ordinary, replace(without, detector="features")], None, of=BOTH)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reasons[0].startswith("detector features: the null distribution could not be fitted")


def test_a_pair_that_only_look_alikes_keep_from_being_significant_is_inconclusive():
    """Neither a backdoor, as classes that look alike are near without one, nor exit 0."""
    look_alike = replace(FOUND, calibrated_p_value=0.6, fitted_p_value=0.002)
    judgement = verdict([look_alike])
    assert (judgement.verdict, judgement.look_alikes) == (Verdict.INCONCLUSIVE, True)
    assert judgement.classes(look_alike) == (1, 9)
    assert judgement.reasons[0].startswith("the pattern from class 1 to class 9 is abnormally small by the fitted null")
    assert "p = 0.002" in judgement.reasons[0]
    assert verdict([replace(look_alike, fitted_p_value=0.2)], None).verdict is Verdict.NOT_DETECTED
    others = [replace(FOUND, statistic=f"other {number}", calibrated_p_value=0.9) for number in range(30)]
    assert verdict([look_alike, *others], None).verdict is Verdict.NOT_DETECTED, "it is corrected like any other"


def test_nothing_else_may_be_doubtful_where_a_pair_passes_for_look_alikes():
    """A baseline accepts such a scan, so it has to be about one pair, which is confirmed."""
    look_alike = replace(FOUND, calibrated_p_value=0.6, fitted_p_value=0.002)
    other = replace(look_alike, statistic="other", source=3, target=7, fitted_p_value=0.004)
    failed = replace(REPLAY, confirmed=False, reason="the rates differ")
    for inferences, verification in (
        ([look_alike], None),
        ([look_alike], failed),
        ([look_alike], replace(REPLAY, source=3)),
        ([look_alike, other], REPLAY),
    ):
        judgement = verdict(inferences, verification)
        assert (judgement.verdict, judgement.look_alikes) == (Verdict.INCONCLUSIVE, False)
    assert verdict([look_alike], failed).reasons[1] == "the original file does not confirm it: the rates differ"
    assert verdict([look_alike, replace(other, fitted_p_value=0.5)]).look_alikes, "the other is not abnormal"


def test_the_pair_that_is_told_is_the_one_that_looks_abnormal():
    part = replace(in_features(fitted_p_value=0.001, source=4), decides=False, part_of="pairs-together")
    witness = Witness("features", part.statistic, 4, 9, 0.3)
    together = replace(
        FOUND, statistic="pairs-together", calibrated_p_value=0.5, fitted_p_value=0.001, witnesses=(witness,)
    )
    nearer = replace(FOUND, statistic="other", source=2, calibrated_p_value=0.4)
    assert to_replay([together, part, nearer], BOTH) == ["features 4"], "it is what the report shows"
    judgement = verdict([together, part], None, of=BOTH)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reasons[0].startswith("the pattern from class 4 to class 9 ")


def test_what_would_have_been_found_is_said_by_a_statistic_of_pairs():
    by_target = replace(FOUND, statistic="target-contrast", calibrated_p_value=0.3, detectable_size=None)
    of_pairs = replace(FOUND, calibrated_p_value=0.4, detectable_size=0.5)
    assert (
        "of planted pairs whose smallest pattern has size 0.5 (L2)" in verdict([of_pairs, by_target], None).reasons[1]
    )


def test_the_verdict_is_about_the_pair_that_was_replayed():
    both = [FOUND, in_features(calibrated_p_value=0.002, source=4)]
    assert deciding_conclusion(both, None, published=False) is both[1]
    assert deciding_conclusion(both, REPLAY, published=False) is both[0]
    judgement = verdict(both, REPLAY, of=BOTH)
    assert judgement.verdict is Verdict.BACKDOOR_DETECTED
    assert "class 1 to class 9 is abnormally small (p = 0.02)" in judgement.reasons[0]  # its own p, twice
    other = replace(REPLAY, detector="features", source=4)
    assert "class 4 to class 9 is abnormally small (p = 0.004)" in verdict(both, other, of=BOTH).reasons[0]


def test_a_demonstrated_switch_is_a_detection_whatever_the_pairs_say():
    shown, suspected = examples.with_findings().findings
    for judgement in (verdict([replace(FOUND, calibrated_p_value=0.4)]), verdict([]), verdict()):
        assert with_findings(judgement, [suspected]) == judgement
        switched = with_findings(judgement, [suspected, shown])
        assert switched.verdict is Verdict.BACKDOOR_DETECTED
        assert switched.reasons == (shown.message, *judgement.reasons)


def test_a_detection_names_the_classes_of_what_it_rests_on():
    shown, _ = examples.with_findings().findings
    weak = replace(FOUND, calibrated_p_value=0.4)
    nothing, detected = verdict([weak]), verdict([FOUND], REPLAY)
    assert with_findings(nothing, []).classes(weak) == (FOUND.source, FOUND.target)
    assert with_findings(nothing, [shown]).classes(weak) == (shown.source, shown.target)
    assert with_findings(nothing, [shown]).classes(None) == (shown.source, shown.target)
    assert with_findings(detected, [shown]).classes(FOUND) == (FOUND.source, FOUND.target)
    assert nothing.classes(None) == (None, None)


def test_an_unresolved_finding_leaves_nothing_not_detected():
    shown, suspected = examples.with_findings().findings
    unresolved = replace(suspected, unresolved=True, nodes=("gate\x1b", "join"))
    nothing = verdict([replace(FOUND, calibrated_p_value=0.4)])
    assert nothing.verdict is Verdict.NOT_DETECTED
    doubted = with_findings(nothing, [suspected, unresolved])
    assert doubted.verdict is Verdict.INCONCLUSIVE
    assert doubted.reasons[1:] == nothing.reasons
    assert suspected.message in doubted.reasons[0]
    assert "'gate\\x1b', 'join'" in doubted.reasons[0]
    assert with_findings(nothing, [unresolved, shown]).verdict is Verdict.BACKDOOR_DETECTED
    detected = verdict([FOUND], REPLAY)
    assert detected.verdict is Verdict.BACKDOOR_DETECTED
    assert with_findings(detected, [unresolved]) == detected
    beside = with_findings(Judgement(Verdict.INCONCLUSIVE, ("near",), look_alikes=True), [unresolved])
    assert (beside.reasons[1:], beside.look_alikes) == (("near",), False), "nobody accepts the gate with the pair"


ALL_REASONS = [
    reason
    for conclusions in ([FOUND], [replace(FOUND, calibrated_p_value=0.4)], [])
    for replay in (REPLAY, replace(REPLAY, confirmed=False), None)
    for of in (pairs(), pairs(2), pairs(**first(10, PairStatus.STEP_LIMIT)))
    for reason in verdict(conclusions, replay, of=of).reasons
]


@pytest.mark.parametrize("reason", sorted(set(ALL_REASONS)))
def test_no_reason_calls_a_model_clean_or_safe(reason):
    assert not re.search(r"\b(clean|safe)\b", reason, re.IGNORECASE)
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("calibrated", "written"), [(0.001, "p <= 0.001"), (0.002, "p = 0.002"), (0.0312, "p = 0.031")]
)
def test_the_least_calibrated_p_is_written_as_a_bound(calibrated, written):
    found = replace(FOUND, calibrated_p_value=calibrated, bootstrap_draws=999)
    judgement = judge([], [found], found, None, significance=0.05, published=False)
    assert judgement.verdict is Verdict.INCONCLUSIVE  # no pairs at all
    pairs = examples.detected(10).pairs
    judgement = judge(pairs, [found], found, REPLAY, significance=0.05, published=False)
    assert f"({written})" in judgement.reasons[0]


def test_a_p_value_is_no_bound_for_want_of_draws_elsewhere():
    found = replace(FOUND, calibrated_p_value=0.004, bootstrap_draws=999)
    boundary = replace(FOUND, statistic="target-contrast", calibrated_p_value=1.0, bootstrap_draws=0)
    assert "(p = 0.008)" in verdict([found, boundary]).reasons[0]
    assert "(p = 1)" in verdict([boundary]).reasons[0]


def replay(*rates: tuple[int, float, float]) -> Verification:
    """The replay with some other classes: source, rate with the pattern and without."""
    return replace(
        REPLAY, collateral=tuple(CollateralDamage(source, rate, before, 20) for source, rate, before in rates)
    )


@pytest.mark.parametrize(
    ("verification", "changes", "told"),
    [
        (
            replay((2, 0.9, 0.0), (3, 0.6, 0.1), (4, 0.2, 0.0)),
            {},
            "images of 3 of 4 other classes go to class 9 with it",
        ),
        (replay((2, 0.9, 0.5)), {}, "no other class follows it: class 1 to class 9 only"),
        (
            replay((2, 0.1, 0.0)),
            {"abnormal": ((1, 9), (0, 1), (9, 0), (3, 4))},
            "images of 4 classes go to another class each (0 to 1, 1 to 9, 3 to 4, 9 to 0)",
        ),
        (replay((2, 0.9, 0.0)), {"abnormal": ((1, 9), (2, 9), (3, 9))}, "images of 2 of 2 other classes go to class 9"),
    ],
)
def test_a_detection_says_which_classes_go_where(verification, changes, told):
    judgement = verdict([replace(FOUND, **changes)], verification)
    assert any(reason.startswith(told) for reason in judgement.reasons)


def test_a_target_that_stands_out_says_nothing_of_the_classes_that_its_pattern_was_not_made_for():
    witness = Witness("pairwise", "target-contrast", 1, 9, 0.01, 5.0)
    changes = {"statistic": OF_TARGETS_TOGETHER, "witnesses": (witness,), "carried_by": "target-contrast"}
    judgement = verdict([replace(FOUND, **changes)], replay((2, 0.1, 0.0)))
    assert judgement.verdict is Verdict.BACKDOOR_DETECTED
    assert "class 9 stands out as a target: small patterns lead to it" in judgement.reasons[0]
    assert not any("no other class" in reason for reason in judgement.reasons)


@pytest.mark.parametrize(("p_value", "near"), [(0.06, True), (0.2, True), (0.21, False)])
def test_a_p_near_the_threshold_is_called_borderline(p_value, near):
    judgement = verdict([replace(FOUND, calibrated_p_value=p_value)])
    assert judgement.verdict is Verdict.NOT_DETECTED
    assert any(reason.startswith("this is borderline: more images") for reason in judgement.reasons) is near


def test_one_witness_alone_below_the_threshold_is_named():
    alone = replace(FOUND, calibrated_p_value=0.01, decides=False, part_of=OF_TARGETS_TOGETHER)
    judgement = verdict([replace(FOUND, calibrated_p_value=0.5), alone])
    [told] = [reason for reason in judgement.reasons if "borderline" in reason]
    assert "pairwise plain, class 9, p = 0.01 alone" in told
