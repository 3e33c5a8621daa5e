"""From pair results to an inference: what counts, the correction for confusion, and the report's fields."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from backscan.kernels.confusion import size_offset
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import InternalError
from backscan.scanner.inference.commonality import commonality_matrix
from backscan.scanner.inference.variants import (
    INFERENCES,
    MOST_CONFUSED,
    infer_pairs,
    nearness,
    reciprocal_matrix,
    with_reciprocals,
)
from backscan.scanner.results import IndividualSize, IndividualStatus, PairResult, PairStatus, Trajectory
from backscan.scanner.results.fragile import commonality_of

NUM_CLASSES = 8
CONFIG = ScanConfig(detectors=("pairwise",), statistics=("plain",), null="gamma", bootstrap_draws=99, threads=1)


def pair(source, target, size, *, status=PairStatus.REACHED, initial_rate=0.0):
    sizes = np.linspace(0.0, size, 8)
    rates = initial_rate + (0.8 - initial_rate) * sizes / size
    return PairResult(
        detector="pairwise",
        source=source,
        target=target,
        status=status,
        size=size if status.counts else None,
        initial_rate=initial_rate,
        rate=0.8,
        steps=7,
        trajectory=Trajectory(sizes=tuple(sizes.tolist()), rates=tuple(rates.tolist())),
    )


def all_pairs(seed=1, **planted_pair):
    """Pairs of a model without a backdoor, but for the given pair 2:5."""
    sizes = 1.0 / np.random.default_rng(seed).gamma(8.0, size=(NUM_CLASSES, NUM_CLASSES))
    pairs = [pair(s, t, sizes[s, t]) for s in range(NUM_CLASSES) for t in range(NUM_CLASSES) if s != t]
    return [pair(2, 5, **planted_pair) if planted_pair and (p.source, p.target) == (2, 5) else p for p in pairs]


def infer(pairs, **changes):
    (inference,) = infer_pairs(pairs, replace(CONFIG, **changes), NUM_CLASSES, detector="pairwise", space="image")
    return inference


@pytest.mark.parametrize("name", INFERENCES)
def test_planted_pair_is_detected(name):
    inference = infer(all_pairs(size=0.01), inference=name)
    assert (inference.source, inference.target) == (2, 5)
    assert inference.detected
    assert inference.calibrated_p_value == 0.01
    assert inference.p_value < 1e-6
    assert inference.num_pairs == 56
    assert inference.inference == name


@pytest.mark.parametrize("name", INFERENCES)
def test_nothing_planted_is_not_detected(name):
    inference = infer(all_pairs(), inference=name)
    assert not inference.detected
    assert inference.calibrated_p_value > 0.05


def test_fields_come_from_the_caller_and_the_configuration():
    inference = infer(all_pairs(), statistics=("reverse-controlled",), norm="l1")
    assert (inference.detector, inference.space, inference.norm) == ("pairwise", "image", "l1")
    assert (inference.statistic, inference.bootstrap_draws, inference.decides) == ("reverse-controlled", 99, True)
    assert np.shape(inference.values) == (NUM_CLASSES, NUM_CLASSES)
    assert inference.values[3][3] is None


def test_published_p_may_decide_without_draws():
    inference = infer(all_pairs(size=0.01), published_p=True, bootstrap_draws=0)
    assert inference.detected
    assert inference.calibrated_p_value is None
    assert not infer(all_pairs(size=0.01), bootstrap_draws=0).detected


@pytest.mark.parametrize("status", [PairStatus.ALREADY_CONFUSED, PairStatus.NO_IMAGES])
def test_pairs_that_do_not_count_are_never_detected(status):
    inference = infer(all_pairs(size=0.01, status=status))
    assert (inference.source, inference.target) != (2, 5)
    assert inference.num_pairs == 55
    assert inference.values[2][5] is None


@pytest.mark.parametrize("status", [PairStatus.SIZE_LIMIT, PairStatus.STEP_LIMIT])
def test_pairs_at_a_limit_enter_with_twice_the_largest_size_tried(status):
    inference = infer(all_pairs(size=50.0, status=status))
    assert inference.num_pairs == 56
    assert inference.values[2][5] == pytest.approx(1.0 / 100.0)
    assert inference.remarks[-1] == "1 of 56 pairs ended at a limit and count as twice the largest size tried"


@pytest.mark.parametrize("status", [PairStatus.REACHED, PairStatus.SIZE_LIMIT])
def test_commonality_of_a_pair_at_a_limit_is_that_of_twice_the_largest_size_tried(status):
    """As tried it would seem larger than it is, which is what an attack looks like."""
    single = IndividualSize(IndividualStatus.FOUND, 2.0, 0.1, None)
    found = replace(pair(0, 1, 4.0, status=status), individual_size=single)
    [given] = with_reciprocals([found], inference="principal", order=3)
    expected = 0.5 if status is PairStatus.REACHED else 0.25
    assert commonality_matrix([given], 2)[0, 1] == expected
    assert commonality_of(given) == expected


def test_reciprocals_without_correction():
    (prepared,) = with_reciprocals([pair(0, 1, 0.5, initial_rate=0.3)], inference="principal", order=3)
    assert (prepared.offset, prepared.reciprocal) == (None, 2.0)


def test_reciprocals_corrected_by_equation_seven():
    confused = pair(0, 1, 0.5, initial_rate=0.3)  # a line: 0.3 at size 0, 0.8 at 0.5, so 0 at -0.3
    (prepared,) = with_reciprocals([confused], inference="corrected", order=3)
    assert prepared.offset == size_offset(confused.trajectory.sizes, confused.trajectory.rates, 3)
    assert prepared.offset == pytest.approx(0.3, rel=1e-6)
    assert prepared.reciprocal == pytest.approx(1.0 / 0.8, rel=1e-6)


def test_offset_of_a_pair_without_confusion_is_zero():
    (prepared,) = with_reciprocals([pair(0, 1, 0.5)], inference="corrected", order=3)
    assert (prepared.offset, prepared.reciprocal) == (0.0, 2.0)


def test_pairs_that_do_not_count_have_no_reciprocal():
    stale = replace(pair(0, 1, 0.5, status=PairStatus.NO_IMAGES), reciprocal=7.0, offset=1.0)
    (prepared,) = with_reciprocals([stale], inference="corrected", order=3)
    assert (prepared.offset, prepared.reciprocal) == (None, None)


def test_reciprocals_stay_when_taken_again():
    once = with_reciprocals(all_pairs(), inference="corrected", order=3)
    assert with_reciprocals(once, inference="corrected", order=3) == once


def test_pair_that_counts_needs_a_size():
    with pytest.raises(InternalError, match="expected a positive size of pair 0:1, found 0"):
        with_reciprocals([replace(pair(0, 1, 0.5), size=0.0)], inference="principal", order=3)


def test_matrix_has_sources_as_rows():
    prepared = with_reciprocals([pair(1, 2, 0.25)], inference="principal", order=3)
    matrix = reciprocal_matrix(prepared, 3)
    assert matrix[1, 2] == 4.0
    assert np.isnan(matrix).sum() == 8


def test_correction_removes_a_false_alarm():
    """XMK section 3.3: a pair that is small only because the classes are confused is not detected any more."""
    confused = all_pairs(size=0.02, initial_rate=0.7)
    assert infer(confused, inference="principal").detected
    corrected = infer(confused, inference="corrected")
    assert not corrected.detected


def test_a_confused_pair_is_as_near_as_the_way_that_is_left():
    """By default: normal margins, whose mean a pattern moves from the quantile of one rate to that of another."""
    goal, start, least = stats.norm.ppf([0.8, 0.2, 0.01])
    assert nearness(0.2, 0.8) == pytest.approx((goal - start) / (goal - least))
    assert nearness(0.0, 0.8) == nearness(0.01, 0.8) == 1.0
    assert nearness(0.9, 0.8) == nearness(1.0, 0.8) > 0.0
    assert 0.0 < nearness(0.2, 1.0) < 1.0


def test_a_pair_has_to_stand_out_whether_or_not_confusion_is_allowed_for():
    near = {"size": 0.027, "initial_rate": 0.22}
    assert infer(all_pairs(size=0.02)).detected
    assert infer(all_pairs(**near), inference="principal").calibrated_p_value < 0.1
    assert infer(all_pairs(**near)).calibrated_p_value > 0.2


def test_confused_classes_make_no_pair_in_either_direction():
    pairs = [pair(0, 1, 0.5, initial_rate=MOST_CONFUSED), pair(1, 0, 0.5), pair(0, 2, 0.5)]
    found = with_reciprocals(pairs, inference="unconfused", order=3)
    assert [entry.reciprocal for entry in found] == [None, None, 2.0]
    confused = infer(all_pairs(size=0.02, initial_rate=0.5))
    assert not confused.detected
    assert "confuses classes 2 and 5 (50%) on clean images" in confused.remarks[-1]


def test_a_size_that_would_be_found_is_significant_for_all_tests_together():
    alone = replace(CONFIG, published_p=True, bootstrap_draws=0)
    both = replace(alone, detectors=("pairwise", "features"), statistics=("plain", "target-contrast"))
    sizes = [
        infer_pairs(all_pairs(), config, NUM_CLASSES, detector="pairwise", space="image")[0].detectable_size
        for config in (alone, replace(alone, significance=0.05 / 4), both)
    ]
    assert sizes[0] > sizes[1] == sizes[2]
