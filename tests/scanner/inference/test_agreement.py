"""What several witnesses conclude together: agreement on a target counts, disagreement does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backscan.scanner import ScanConfig
from backscan.scanner.inference.agreement import combined, correlation_of
from backscan.scanner.inference.correction import corrected_p_value
from backscan.scanner.inference.target_test import target_test
from backscan.scanner.inference.verdict import candidates_for_replay, deciding_conclusion
from backscan.scanner.results import (
    OF_PAIRS_TOGETHER,
    OF_TARGETS_TOGETHER,
    TARGET_RATE,
    EncodedArray,
    Inference,
    PairResult,
    PairStatus,
    SupportRecord,
    TargetResult,
    Trajectory,
)
from tests.scanner.reports import examples

CONFIG = ScanConfig()
K = 10


def conclusion(detector: str, statistic: str, values, p_value: float, **changes) -> Inference:
    rows = tuple(tuple(row) for row in np.atleast_2d(values).tolist())
    target = int(np.argmax(rows[0]))
    found = Inference(
        detector=detector,
        space="image",
        norm="l2",
        statistic=statistic,
        inference="unconfused",
        num_pairs=K,
        values=rows,
        null=None,
        source=(target + 1) % K,
        target=target,
        p_value=p_value,
        calibrated_p_value=p_value,
        bootstrap_draws=999,
        detected=p_value <= 0.05,
    )
    return replace(found, **changes)


def logs(seed: int, target: int, excess: float) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=K)
    values[target] = excess
    return values


def witnesses(targets: tuple[int, int, int], excess: float) -> list[Inference]:
    first, second, third = (logs(seed, target, excess) for seed, target in enumerate(targets))
    return [
        conclusion("pairwise", "commonality-target", np.exp(first), 0.04),
        conclusion("pairwise", "target-contrast", np.exp(second), 0.04),
        conclusion("window", TARGET_RATE, third, 0.04),
    ]


def pair(source: int, target: int, size: float) -> PairResult:
    curve = Trajectory((0.0, size), (0.0, 0.8))
    return PairResult("pairwise", source, target, PairStatus.REACHED, size, 0.0, 0.8, 3, curve, reciprocal=1.0 / size)


PAIRS = [pair(source, target, 1.0 + source / 10) for source in range(K) for target in range(K) if source != target]


def together(conclusions: list[Inference], config: ScanConfig = CONFIG) -> dict[str, Inference]:
    return {entry.statistic: entry for entry in combined(conclusions, PAIRS, (), config)}


def test_witnesses_that_agree_say_more_than_the_strongest():
    found = together(witnesses((4, 4, 4), 3.0))[OF_TARGETS_TOGETHER]
    assert found.target == 4
    assert found.detected
    alone = [target_test(logs(seed, 4, 3.0)).p_value for seed in range(3)]
    assert found.calibrated_p_value < min(alone) < 0.05
    assert [each.target for each in found.witnesses] == [4, 4, 4]
    assert [each.t for each in found.witnesses] == sorted((each.t for each in found.witnesses), reverse=True)


def test_draws_for_a_small_significance_are_drawn_of_targets_too():
    """Of one, two and three targets together each has a least p-value of one in all draws, so 3 + 1 of them count."""
    careful = ScanConfig(significance=5e-5, bootstrap_draws=79_999)
    careful.check()
    given = witnesses((4, 4, 4), 500.0)
    assert together(given)[OF_TARGETS_TOGETHER].calibrated_p_value >= 3 / 10_000
    found = together(given, careful)[OF_TARGETS_TOGETHER]
    assert found.bootstrap_draws == 3 * 79_999
    assert found.calibrated_p_value <= 4 / found.bootstrap_draws
    assert found.detected
    assert corrected_p_value(found, [found], published=False) <= careful.significance


def test_witnesses_that_disagree_say_no_more():
    agree = together(witnesses((4, 4, 4), 3.0))[OF_TARGETS_TOGETHER].calibrated_p_value
    differ = together(witnesses((4, 7, 1), 3.0))[OF_TARGETS_TOGETHER].calibrated_p_value
    assert differ > 10 * agree


def test_what_decides_are_the_two_together():
    given = [*witnesses((4, 4, 4), 3.0), *(sizes(name, p) for name, p in (("pairwise", 0.2), ("features", 0.03)))]
    found = combined(given, PAIRS, (), CONFIG)
    assert [entry.statistic for entry in found if entry.decides] == [OF_TARGETS_TOGETHER, OF_PAIRS_TOGETHER]
    assert {entry.part_of for entry in found if not entry.decides} == {OF_TARGETS_TOGETHER, OF_PAIRS_TOGETHER}
    of_pairs = found[1]
    assert (of_pairs.detector, of_pairs.calibrated_p_value) == ("features", pytest.approx(0.06))
    assert corrected_p_value(of_pairs, found, published=False) == pytest.approx(0.12)


def test_commonality_of_pairs_informs_beside_sizes_and_decides_alone():
    common = sizes("pairwise", 0.001, statistic="commonality")
    beside = combined([sizes("pairwise", 0.5), common], PAIRS, (), CONFIG)
    assert [(entry.statistic, entry.decides, entry.part_of) for entry in beside] == [
        ("source-adjusted", True, None),
        ("commonality", False, None),
    ]
    assert combined([common], PAIRS, (), CONFIG)[0].decides


def test_one_witness_of_a_kind_stands_alone():
    alone = witnesses((4, 4, 4), 3.0)[:1]
    assert combined(alone, PAIRS, (), CONFIG) == tuple(alone)


def test_two_targets_are_not_combined():
    few = [
        replace(entry, values=(tuple(v if t < 2 else None for t, v in enumerate(entry.values[0])),))
        for entry in witnesses((0, 0, 0), 3.0)
    ]
    assert combined(few, PAIRS, (), CONFIG) == tuple(few)


def test_a_witness_that_lacks_a_target_silences_nobody_about_it():
    few, *others = witnesses((7, 7, 7), 8.0)
    few = replace(few, values=(tuple(None if t == 7 else v for t, v in enumerate(few.values[0])),))
    found = combined([few, *others], PAIRS, (), CONFIG)
    assert found[0].statistic == OF_TARGETS_TOGETHER
    assert (found[0].target, found[0].detected, len(found[0].witnesses)) == (7, True, 2)
    assert [entry.decides for entry in found[1:]] == [True, False, False]


def test_a_pair_that_was_left_out_shows_nothing():
    left_out = [replace(each, size=0.01, reciprocal=None) if each.source == 2 else each for each in PAIRS]
    found = combined(witnesses((4, 4, 4), 3.0), left_out, (), CONFIG)
    assert {each.source for each in found[0].witnesses if each.detector == "pairwise"} == {0}


def test_statistics_of_sizes_by_target_are_one_kind():
    assert correlation_of(["target-contrast", "target-wise", TARGET_RATE]).tolist() == [
        [1.0, 0.9, 0.3],
        [0.9, 1.0, 0.3],
        [0.3, 0.3, 1.0],
    ]


def test_what_was_replayed_decides_by_its_strongest_conclusion():
    """Of pairs together and targets together that show the same pair the one with the smaller p counts."""
    of_pairs = [
        sizes("pairwise", 0.005),
        replace(sizes("features", 0.2), source=0, target=4),
    ]
    of_targets = [replace(each, detector="features") for each in witnesses((4, 4, 4), 3.0)[:2]]
    on_features = [replace(each, detector="features") for each in PAIRS]
    found = combined([*of_pairs, *of_targets], [*PAIRS, *on_features], (), CONFIG)
    verification = replace(examples.detected(10).verification, detector="features", source=0, target=4)
    assert deciding_conclusion(found, verification, published=False).statistic == OF_TARGETS_TOGETHER


def test_each_witness_shows_it_until_one_is_confirmed():
    found = combined(witnesses((4, 4, 4), 3.0), PAIRS, (), CONFIG)
    shown = candidates_for_replay(PAIRS, found, significance=0.05, published=False)
    # Without a window's supports only the searches of pairs have a pattern; the smallest towards the target.
    assert {each.key for each in shown} == {("pairwise", 0, 4)}
    assert deciding_conclusion(found, None, published=False).statistic == OF_TARGETS_TOGETHER


def test_equal_inputs_give_equal_conclusions():
    given = witnesses((4, 4, 4), 3.0)
    assert combined(given, PAIRS, (), CONFIG) == combined(given, PAIRS, (), CONFIG)


def sizes(detector: str, p_value: float, statistic: str = "source-adjusted") -> Inference:
    return conclusion(detector, statistic, np.random.default_rng(9).normal(size=(K, K)) + 5.0, p_value)


def content(rates: dict[int, float], target: int = 4) -> TargetResult:
    hits = tuple(round(40 * rate) for rate in rates.values())
    nothing = EncodedArray.encode(np.zeros((1, 1), np.float32))
    support = SupportRecord(3, (), nothing, tuple(rates), hits, (40,) * len(hits))
    return TargetResult("window", target, PairStatus.REACHED, 0.0, 0.9, 9, support)


@pytest.mark.parametrize(
    ("rates", "source"),
    [
        ({7: 0.5, 2: 0.4, 1: 0.3}, 7),  # one class follows, and the others do not
        ({7: 1.0, 2: 0.95, 1: 0.5}, 2),  # of two that follow the pattern from 2 is smaller
        ({7: 1.0, 1: 0.925, 2: 0.9}, 1),
    ],
)
def test_of_sources_that_follow_alike_that_of_the_smallest_pattern_is_named(rates, source):
    """Sizes grow with the number of the source (`PAIRS`)."""
    found = combined(witnesses((4, 4, 4), 3.0), PAIRS, (content(rates),), CONFIG)
    alone = combined(witnesses((4, 4, 4), 3.0), (), (content(rates),), CONFIG)
    told = [next(each.source for each in them[0].witnesses if each.detector == "window") for them in (found, alone)]
    assert told == [source, 7], "without sizes the highest rate counts"


def test_content_that_was_searched_twice_at_one_size_counts_once():
    given = [*witnesses((4, 4, 4), 3.0), conclusion("pairwise", "target-mask", np.exp(logs(5, 4, 2.0)), 0.04)]
    twice = [*given, replace(given[2], detector="large-window")]
    once, both = (combined(each, PAIRS, (), CONFIG) for each in (given, twice))
    assert both[0].calibrated_p_value == once[0].calibrated_p_value
    assert (both[-1].decides, both[-1].remarks) == (False, ("the same as by detector window, which decides",))
