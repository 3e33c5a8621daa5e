"""Nearness that clean margins explain is taken off, and what is planted stays."""

from dataclasses import replace

import numpy as np
import pytest

from backscan.scanner.config import ScanConfig
from backscan.scanner.inference.margins import beside_margins, margin_matrix, weighed_by_margins
from backscan.scanner.inference.order_test import Terms, assess
from backscan.scanner.inference.statistics import STATISTICS
from backscan.scanner.inference.variants import infer_pairs
from backscan.scanner.results import PairResult, PairStatus, Trajectory
from tests.scanner.inference.likeness import add_look_alikes

TERMS = Terms("source-adjusted", null="inverse-gaussian", bootstrap_draws=199, beyond_tail=True, tells_power=False)


PLACE = {"detector": "pairwise", "space": "image"}


def look_alikes(num_classes, seed, *, groups=12, multiple=0.7):
    """Reciprocals and margins of classes of which some look alike: near, with margins that are small likewise."""
    rng = np.random.default_rng(seed)
    nearness = rng.normal(scale=0.2, size=(num_classes, num_classes))
    add_look_alikes(nearness, rng, groups=groups, scale=0.6)
    logs = multiple * nearness + rng.normal(scale=0.15, size=nearness.shape) + rng.normal(scale=0.2, size=num_classes)
    itself = np.eye(num_classes, dtype=bool)
    logs[itself] = nearness[itself] = np.nan
    return np.exp(logs), np.exp(-nearness)


def both_ways(margins):
    """Nearness of classes on clean images: each about the mean of its source, and the two directions added."""
    own = -np.log(margins)
    own -= np.nanmean(own, axis=1, keepdims=True)
    return own + own.T


def planted(num_classes, seed):
    """The same with a pair that is near although its classes do not look alike, as near as the nearest look-alikes."""
    reciprocals, margins = look_alikes(num_classes, seed)
    margins[2, 5] = margins[5, 2] = np.exp(0.3)
    reciprocals[2, 5] = 1.3 * np.nanmax(reciprocals)
    return reciprocals, margins


def test_the_multiple_is_that_of_least_squares_with_an_effect_of_every_source():
    reciprocals, margins = look_alikes(10, 3)
    reciprocals[1, 4], margins[7, 2] = np.nan, np.nan
    nearness = both_ways(margins)
    known = ~np.isnan(reciprocals) & ~np.isnan(nearness)
    sources = np.eye(10)[np.nonzero(known)[0]]
    design = np.column_stack((sources, nearness[known]))
    multiple = np.linalg.lstsq(design, np.log(reciprocals[known]), rcond=None)[0][-1]
    expected = np.log(reciprocals[known]) - multiple * (nearness[known] - nearness[known].mean())
    beside = beside_margins(reciprocals, margins)
    np.testing.assert_allclose(np.log(beside[known]), expected, rtol=1e-9)
    assert np.isnan(beside[~known]).all()
    np.testing.assert_allclose(np.log(beside[known]).mean(), np.log(reciprocals[known]).mean())


def test_what_margins_explain_wholly_leaves_the_effects_of_sources():
    _, margins = look_alikes(8, 1)
    effects = np.linspace(1.0, 3.0, 8)[:, None]
    reciprocals = effects * np.exp(0.8 * both_ways(margins))
    beside = beside_margins(reciprocals, margins)
    np.testing.assert_allclose(np.nanstd(beside / effects), 0.0, atol=1e-12)


def test_margins_that_say_nothing_are_not_used():
    reciprocals, margins = look_alikes(10, 2)
    assert beside_margins(reciprocals, 1.0 / margins) is None, "what is far apart is nearer"
    assert beside_margins(reciprocals, np.ones_like(margins)) is None
    noise = np.random.default_rng(3).lognormal(sigma=0.3, size=(40, 10, 10))
    assert sum(beside_margins(reciprocals, each) is not None for each in noise) <= 4, "2 % of 40, by two errors"
    assert beside_margins(reciprocals, np.full_like(margins, np.nan)) is None
    few = np.where(np.arange(10)[:, None] < 7, margins, np.nan)
    assert beside_margins(reciprocals, few) is None, "three classes in ten have none"
    assert beside_margins(*look_alikes(4, 2)) is None, "twelve pairs"


def p_values(make, seeds):
    for seed in seeds:
        reciprocals, margins = make(10, seed)
        yield assess(reciprocals, TERMS), assess(reciprocals, TERMS, beside=beside_margins(reciprocals, margins))


def test_a_planted_pair_among_look_alikes_is_found_and_look_alikes_are_not():
    """Of 40 networks each; by the tail alone none of the planted pairs that lie no further out than look-alikes."""
    both = [pair for pair in p_values(planted, range(40)) if pair[0].tail_p_value]
    assert len(both) > 15
    assert sum(alone.calibrated_p_value <= 0.05 for alone, _ in both) == 0
    found = [beside for _, beside in both if beside.calibrated_p_value <= 0.05]
    assert len(found) >= 0.7 * len(both)
    assert all((each.source, each.target) == (2, 5) and (2, 5) in each.abnormal for each in found)
    assert all("beside how near the classes are" in " ".join(each.remarks) for each in found)
    unattacked = list(p_values(look_alikes, range(40)))
    near = [pair for pair in unattacked if pair[0].tail_p_value and pair[0].fitted_p_values[1] <= 0.05]
    assert len(near) >= 20
    assert sum(beside.calibrated_p_value <= 0.05 for _, beside in near) <= 0.05 * len(near)
    assert all(
        alone.fitted_p_values[1] <= beside.fitted_p_values[1] <= beside.calibrated_p_value <= alone.calibrated_p_value
        for alone, beside in unattacked
    )


def test_the_pair_that_is_named_is_the_one_that_margins_leave_unexplained():
    """A natural pair with the same target is nearer than the planted one."""
    named = []
    for seed in range(30):
        reciprocals, margins = planted(10, seed)
        reciprocals[7, 5] = 1.15 * reciprocals[2, 5]
        margins[7, 5] = margins[5, 7] = 0.2 * np.nanmin(margins)
        alone = assess(reciprocals, TERMS)
        found = assess(reciprocals, TERMS, beside=beside_margins(reciprocals, margins))
        assert (alone.source, alone.target) == (7, 5)
        if alone.tail_p_value and found.calibrated_p_value <= 0.05:
            named.append((found.source, found.target))
            assert (2, 5) in found.abnormal
    assert len(named) >= 10
    assert set(named) == {(2, 5)}


def as_pairs(reciprocals, margins):
    for (source, target), reciprocal in np.ndenumerate(reciprocals):
        if source != target:
            size = 1.0 / reciprocal
            path = Trajectory((0.0, size), (0.0, 0.8))
            pair = PairResult("pairwise", source, target, PairStatus.REACHED, size, 0.0, 0.8, 1, path)
            yield replace(pair, clean_margin=None if margins is None else float(margins[source, target]))


def test_conclusions_of_a_scan_take_the_margins_from_its_pairs():
    config = ScanConfig(detectors=("pairwise",), statistics=("source-adjusted",), bootstrap_draws=199, threads=1)
    reciprocals, margins = next(
        made for seed in range(40) if assess((made := planted(10, seed))[0], TERMS).tail_p_value > 0.2
    )
    told = {
        name: infer_pairs(tuple(as_pairs(reciprocals, given)), replace(config, inference=how), 10, **PLACE)[0]
        for name, given, how in (
            ("beside", margins, "distinct"),
            ("without", None, "distinct"),
            ("before", margins, "unconfused"),
        )
    }
    assert told["without"].calibrated_p_value > 0.2 > 0.05 >= told["beside"].calibrated_p_value
    assert told["without"].fitted_p_value == told["before"].calibrated_p_value <= told["beside"].calibrated_p_value
    assert told["before"].fitted_p_value is None


def test_margins_are_read_by_source_and_target():
    pairs = list(as_pairs(*look_alikes(3, 0)))
    matrix = margin_matrix([replace(pairs[0], clean_margin=2.5), replace(pairs[1], clean_margin=0.0), *pairs[2:4]], 3)
    assert (matrix[0, 1], np.isnan(matrix[0, 2]), np.isnan(matrix[2]).all()) == (2.5, True, True)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_neither_scale_changes_the_comparison(scale):
    reciprocals, margins = look_alikes(10, 5)
    once, scaled = beside_margins(reciprocals, margins), beside_margins(scale * reciprocals, margins / scale)
    np.testing.assert_allclose(scaled, scale * once, rtol=1e-9)


def test_half_of_the_contrast_of_margins_is_taken_off_that_of_sizes():
    reciprocals, margins = look_alikes(6, 4)
    reciprocals[2, 5] = np.nan
    weighed = np.log(STATISTICS["margin-contrast"](weighed_by_margins(reciprocals, margins))[0])
    counts = np.where(np.isnan(reciprocals), np.nan, np.log(margins))
    of_margins = np.nanmean(counts, axis=1) - np.nanmean(counts, axis=0)
    np.testing.assert_allclose(weighed, np.log(STATISTICS["target-contrast"](reciprocals)[0]) - 0.5 * of_margins)


def test_a_margin_that_is_not_known_stands_for_the_others():
    reciprocals, margins = look_alikes(6, 4)
    margins[3, 1] = np.nan
    weighed = weighed_by_margins(reciprocals, margins)
    np.testing.assert_allclose(weighed[3, 1], reciprocals[3, 1] * np.exp(0.5 * np.nanmean(np.log(margins))))
    np.testing.assert_array_equal(np.isnan(weighed), np.isnan(reciprocals))
    assert weighed_by_margins(reciprocals, np.where(np.arange(6) < 2, margins, np.nan)) is None
    assert weighed_by_margins(np.full((6, 6), np.nan), margins) is None


def frequent(seed, lead):
    """Classes of which one leads far on its own images and is led over by little, and sizes of equal slopes."""
    rng = np.random.default_rng(seed)
    margins = np.exp(rng.normal(0.0, 0.3, size=(10, 10)))
    margins[4] *= lead
    margins[:, 4] /= lead
    reciprocals = np.exp(rng.normal(0.0, 0.3, size=(10, 10))) / margins
    np.fill_diagonal(reciprocals, np.nan)
    np.fill_diagonal(margins, np.nan)
    return reciprocals, margins


def test_a_class_that_clean_images_show_to_be_near_all_others_stands_out_less():
    config = ScanConfig(detectors=("pairwise",), statistics=("target-contrast", "margin-contrast"), threads=1)
    for seed in range(5):
        pairs = tuple(as_pairs(*frequent(seed, 1.6)))
        by_sizes, beside = infer_pairs(pairs, replace(config, bootstrap_draws=199), 10, **PLACE)
        assert (by_sizes.target, by_sizes.p_value < 0.2 * beside.p_value) == (4, True)
        assert beside.remarks == by_sizes.remarks == ()


def test_an_attack_from_all_classes_leaves_the_margins_and_stands_out_as_much():
    config = ScanConfig(detectors=("pairwise",), statistics=("target-contrast", "margin-contrast"), threads=1)
    for seed in range(5):
        reciprocals, margins = frequent(seed, 1.0)
        reciprocals[:, 7] *= 5.0
        found = infer_pairs(tuple(as_pairs(reciprocals, margins)), replace(config, bootstrap_draws=199), 10, **PLACE)
        assert all((each.target, each.calibrated_p_value <= 0.05) == (7, True) for each in found)


def test_without_margins_contrasts_are_those_of_sizes_and_that_is_said():
    config = ScanConfig(detectors=("pairwise",), statistics=("target-contrast", "margin-contrast"), bootstrap_draws=19)
    reciprocals, _ = look_alikes(10, 3)
    by_sizes, beside = infer_pairs(tuple(as_pairs(reciprocals, None)), config, 10, **PLACE)
    assert beside.values == by_sizes.values
    assert beside.p_value == by_sizes.p_value
    assert beside.remarks == (
        "clean margins are not known of most pairs, so contrasts of targets are those of sizes alone",
    )
