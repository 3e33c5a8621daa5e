"""The test on one matrix of reciprocals, as the contract states it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from backscan.kernels import LeftOut
from backscan.kernels.nulls import NULL_FAMILIES
from backscan.scanner.config import TARGET_STATISTICS
from backscan.scanner.inference.order_test import Screened, Terms, assess
from backscan.scanner.inference.statistics import STATISTICS
from tests.scanner.inference.likeness import add_look_alikes


def ideal(num_classes, seed=0, shape=5.0):
    """Independent Gamma reciprocals."""
    values = np.random.default_rng(seed).gamma(shape, size=(num_classes, num_classes))
    values[np.eye(num_classes, dtype=bool)] = np.nan
    return values


def planted(num_classes=10, seed=0, reciprocal=40.0):
    values = ideal(num_classes, seed)
    values[3, 7] = reciprocal
    return values


def p_values(num_classes, terms, num_nulls):
    """Published and calibrated p-values of ideal nulls."""
    terms = replace(terms, tells_power=False)
    found = [assess(ideal(num_classes, seed), terms) for seed in range(num_nulls)]
    return np.array([entry.p_value for entry in found]), np.array([entry.calibrated_p_value for entry in found])


@pytest.mark.parametrize("statistic", [name for name in STATISTICS if name not in TARGET_STATISTICS])
@pytest.mark.parametrize("null", NULL_FAMILIES)
@pytest.mark.parametrize("left_out", LeftOut)
def test_planted_pair_is_the_most_extreme(statistic, null, left_out):
    terms = Terms(statistic=statistic, null=null, left_out=left_out, bootstrap_draws=39)
    found = assess(planted(reciprocal=100.0), terms)
    assert (found.source, found.target) == (3, 7)
    assert found.num_pairs == 90
    assert found.null is not None
    assert found.null.sample_size == (90 if left_out is LeftOut.NOTHING else 81)
    if found.null.status == "reached":
        assert found.p_value < 0.05
        assert found.detectable_size is not None or statistic.endswith("reverse-controlled")


def test_target_wise_finds_the_target_of_an_attack_from_all_classes():
    reciprocals = ideal(10)
    reciprocals[:, 7] *= 4.0
    found = assess(reciprocals, Terms(statistic="target-wise", bootstrap_draws=199))
    assert (found.source, found.target) == (int(np.nanargmax(reciprocals[:, 7])), 7)
    assert found.values.shape == (1, 10)
    assert (found.num_pairs, found.null.sample_size) == (10, 9)
    assert found.calibrated_p_value <= 0.01
    assert found.detectable_size is None


def test_p_value_is_equation_four_and_digits_survive():
    found = assess(planted(reciprocal=60.0), Terms(bootstrap_draws=0))
    null = found.null
    sf = stats.gamma.sf(60.0, null.parameters["shape"], scale=null.parameters["scale"])
    assert found.p_value == pytest.approx(-math.expm1(90 * math.log1p(-sf)), rel=1e-8)
    assert found.p_value < 1e-15
    assert null.largest == 60.0
    assert null.cutoff == np.sort(planted(reciprocal=60.0)[~np.eye(10, dtype=bool)])[81]


def test_p_value_is_never_zero():
    assert assess(planted(reciprocal=1e6), Terms(bootstrap_draws=0)).p_value > 0.0


def test_calibrated_p_has_the_floor_of_its_draws():
    found = assess(planted(), Terms(bootstrap_draws=199))
    assert found.calibrated_p_value == 1 / 200
    assert found.bootstrap_draws == 199
    assert assess(planted(), Terms(bootstrap_draws=0)).calibrated_p_value is None


def test_calibration_holds_its_level_where_the_published_p_does_not():
    published, calibrated = p_values(6, Terms(bootstrap_draws=99), num_nulls=300)
    assert np.mean(published <= 0.05) > 0.12
    assert 0.02 <= np.mean(calibrated <= 0.05) <= 0.09  # 0.05 +- 3 standard errors


def test_calibration_of_another_statistic_holds_its_level():
    published, calibrated = p_values(10, Terms(statistic="reverse-controlled", bootstrap_draws=99), num_nulls=200)
    assert np.mean(published <= 0.05) > 0.2
    assert np.mean(calibrated <= 0.05) <= 0.10


@pytest.mark.parametrize("statistic", STATISTICS)
def test_scale_of_the_sizes_changes_nothing(statistic):
    terms = Terms(statistic=statistic, bootstrap_draws=99)
    one, other = assess(planted(reciprocal=14.0), terms), assess(1e-8 * planted(reciprocal=14.0), terms)
    assert other.p_value == pytest.approx(one.p_value, rel=1e-6)
    assert other.calibrated_p_value == one.calibrated_p_value
    assert (one.detectable_size is None) == (statistic in TARGET_STATISTICS)
    if one.detectable_size is not None:
        assert other.detectable_size == pytest.approx(1e8 * one.detectable_size, rel=1e-6)


def test_threads_and_repetition_change_nothing():
    results = [assess(ideal(8), Terms(bootstrap_draws=200, threads=threads)) for threads in (1, 2, 1)]
    assert len({(r.p_value, r.calibrated_p_value, r.detectable_size) for r in results}) == 1


def test_missing_pairs_leave_the_exponent_and_the_fit():
    reciprocals = ideal(10)
    reciprocals[4] = np.nan  # a class without images
    found = assess(reciprocals, Terms(bootstrap_draws=0))
    assert found.num_pairs == 81
    assert found.null.sample_size == 81 - 9
    sf = stats.gamma.sf(found.null.largest, found.null.parameters["shape"], scale=found.null.parameters["scale"])
    assert found.p_value == pytest.approx(1 - (1 - sf) ** 81, rel=1e-8)


def test_missing_pairs_are_never_the_most_extreme():
    reciprocals = planted()
    reciprocals[3, 7] = np.nan
    found = assess(reciprocals, Terms(bootstrap_draws=0))
    assert (found.source, found.target) != (3, 7)
    assert math.isnan(found.values[3, 7])


def test_statistic_says_which_pairs_it_misses():
    reciprocals = ideal(10)
    reciprocals[4] = np.nan
    found = assess(reciprocals, Terms(statistic="reverse-controlled", bootstrap_draws=19))
    assert found.num_pairs == 72
    assert "9 pairs lack the pair" in found.remarks[0]


@pytest.mark.parametrize("wrong", [np.ones((2, 3)), np.ones(4), np.array([[np.nan, 0.0], [1.0, np.nan]])])
def test_refuses_what_is_no_matrix_of_reciprocals(wrong):
    with pytest.raises(ValueError, match="expected a square matrix of positive reciprocals"):
        assess(wrong, Terms())


def test_no_pair_left():
    found = assess(np.full((4, 4), np.nan), Terms())
    assert (found.p_value, found.null, found.source) == (None, None, None)
    assert found.remarks


def test_one_target_cannot_be_judged():
    reciprocals = np.full((5, 5), np.nan)
    reciprocals[:4, 4] = [1.0, 2.0, 3.0, 4.0]
    found = assess(reciprocals, Terms())
    assert found.null.status == "failed"
    assert found.p_value is None
    assert found.calibrated_p_value is None
    assert (found.source, found.target) == (3, 4)


@pytest.fixture
def reciprocals():
    values = np.full((3, 3), np.nan)
    values[~np.eye(3, dtype=bool)] = [0.2, 0.9, 0.95, 0.97, 1.0, 40.0]
    return values


def test_boundary_of_few_pairs_has_p_of_one_and_says_so(reciprocals):
    found = assess(reciprocals, Terms())
    assert found.null.status == "boundary"
    assert (found.p_value, found.calibrated_p_value, found.bootstrap_draws) == (1.0, 1.0, 0)
    assert found.detectable_size is None
    assert found.null.density is None
    assert list(found.null.parameters) == ["shape"]  # the scale is infinite
    assert "edge of the family" in found.remarks[0]


def spread_out(largest):
    """Sizes of which one class's are far larger than the others, and one reciprocal that may be large, [6, 6]."""
    rng = np.random.default_rng(4)
    values = 1.0 / rng.gamma(9.0, 1.0 / 9.0, size=(6, 6))
    values = 1.0 / np.where(np.arange(6) == 1, 20.0 * values, values)
    values[np.eye(6, dtype=bool)] = np.nan
    values[3, 5] = largest
    return values


@pytest.mark.parametrize(("largest", "is_small"), [(2.0, False), (200.0, True)])
def test_at_the_boundary_the_largest_is_judged_by_the_spread_of_the_others(largest, is_small):
    """Grubbs' p of the logarithms, by scipy's t."""
    found = assess(spread_out(largest), Terms(null="inverse-gaussian", bootstrap_draws=99))
    assert found.null.status == "boundary"
    logs = np.log(found.values[~np.isnan(found.values)])
    others = np.sort(logs)[:-1]
    t = (logs.max() - others.mean()) / (others.std(ddof=1) * np.sqrt(1 + 1 / 29))
    expected = min(1.0, 30 * stats.t.sf(t, 28))
    assert (found.p_value, found.calibrated_p_value) == (pytest.approx(expected), pytest.approx(expected))
    assert (found.calibrated_p_value <= 0.05) is is_small
    assert "spread of the logarithms" in found.remarks[0]


def test_boundary_of_the_reciprocals_leaves_another_statistic_without_calibration(reciprocals):
    found = assess(reciprocals, Terms(statistic="reverse-controlled"))
    assert found.null.status == "reached"
    assert found.calibrated_p_value is None
    assert "could not be calibrated" in found.remarks[0]


def test_density_is_that_of_the_null_over_the_range():
    found = assess(planted(), Terms(bootstrap_draws=0))
    x, y = np.array(found.null.density.x), np.array(found.null.density.y)
    assert len(x) == 200
    assert np.all(np.diff(x) > 0.0)
    assert x[0] < np.nanmin(planted())
    assert x[-1] > 40.0
    expected = stats.gamma.pdf(x, found.null.parameters["shape"], scale=found.null.parameters["scale"])
    np.testing.assert_allclose(y, expected, rtol=1e-9)


def found_when_planted(reciprocals, terms, size):
    """Share of pairs that are significant and the most extreme when each is planted alone with a pattern of a size."""
    found = []
    for source, target in np.argwhere(~np.isnan(reciprocals)):
        planted_one = reciprocals.copy()
        planted_one[source, target] = 1.0 / size
        judged = assess(planted_one, replace(terms, tells_power=False))
        p_value = judged.p_value if terms.published_p else judged.calibrated_p_value
        found.append(terms.num_tests * p_value <= 0.05 and (judged.source, judged.target) == (source, target))
    return np.mean(found)


@pytest.mark.parametrize(("statistic", "num_tests"), [("plain", 1), ("source-adjusted", 4)])
@pytest.mark.parametrize("left_out", LeftOut)
def test_four_of_five_pairs_are_found_at_the_detectable_size(num_tests, left_out, statistic):
    """All pairs of six classes are planted one by one, and the whole test is done again."""
    terms = Terms(statistic, left_out, published_p=True, num_tests=num_tests, bootstrap_draws=0)
    reciprocals = ideal(6)
    size = assess(reciprocals, terms).detectable_size
    assert found_when_planted(reciprocals, terms, 0.999 * size) >= 0.8
    assert found_when_planted(reciprocals, terms, 1.001 * size) < 0.8


def test_calibrated_p_values_find_them_too():
    """The draws follow the planted matrix, and so by a few per cent does the size."""
    terms = Terms("source-adjusted", null="inverse-gaussian", bootstrap_draws=399, tells_power=False)
    reciprocals = ideal(6, seed=2)
    size = assess(reciprocals, replace(terms, tells_power=True)).detectable_size
    assert found_when_planted(reciprocals, terms, 0.9 * size) >= 0.8
    assert found_when_planted(reciprocals, terms, 1.1 * size) < 0.8


def test_detectable_size_is_unknown_without_enough_draws():
    assert assess(ideal(10), Terms(bootstrap_draws=9)).detectable_size is None
    assert assess(ideal(10), Terms(bootstrap_draws=0)).detectable_size is None
    assert assess(ideal(10), Terms(bootstrap_draws=0, published_p=True)).detectable_size is not None


BEYOND = Terms(null="inverse-gaussian", bootstrap_draws=199, beyond_tail=True)


def look_alikes(num_classes, seed, *, groups):
    """Reciprocals of classes of which some groups look alike, more or less: near both ways, without an attack."""
    rng = np.random.default_rng(seed)
    logs = rng.normal(scale=0.25, size=(num_classes, num_classes))
    add_look_alikes(logs, rng, groups=groups, scale=0.4)
    logs[np.eye(num_classes, dtype=bool)] = np.nan
    return np.exp(logs)


@pytest.mark.parametrize(("num_classes", "groups"), [(10, 12), (43, 80)])
def test_look_alikes_are_abnormal_by_the_fitted_null_and_not_beside_their_like(num_classes, groups):
    found = [
        assess(look_alikes(num_classes, seed, groups=groups), replace(BEYOND, tells_power=False)) for seed in range(40)
    ]
    fitted = np.array([each.fitted_p_values[1] for each in found])
    counted = np.array([each.calibrated_p_value for each in found])
    assert (fitted <= 0.05).mean() >= 0.6
    assert (counted <= 0.05).mean() <= 0.3  # look-alikes of any strength are no exponential tail
    assert (counted >= fitted).all()


def test_a_pair_that_only_looks_abnormal_says_why_and_names_no_abnormal_pair():
    found = next(
        each
        for seed in range(40)
        if (each := assess(look_alikes(43, seed, groups=80), BEYOND)).tail_p_value and each.fitted_p_values[1] <= 0.05
    )
    assert found.calibrated_p_value == max(found.tail_p_value, found.fitted_p_values[1]) > 0.1
    assert any("classes that look alike come as near" in remark for remark in found.remarks)
    assert found.abnormal == ()
    as_before = assess(look_alikes(43, 0, groups=80), replace(BEYOND, beyond_tail=False))
    assert (as_before.tail_p_value, as_before.calibrated_p_value) == (0.0, as_before.fitted_p_values[1])


def plant(pairs, factor=30.0):
    reciprocals = ideal(10, seed=2)
    for source, target in pairs:
        reciprocals[source, target] *= factor
    return reciprocals


@pytest.mark.parametrize(
    "pairs",
    [
        [(3, 7)],
        [(3, 7), (7, 3)],
        [(s, 7) for s in range(10) if s != 7],
        [(s, (s + 1) % 10) for s in range(10)],
        [(s, (s + 1) % 10) for s in range(9)],
        [(s, (s + 1) % 10) for s in range(7)],
    ],
    ids=["one way", "two ways", "all to one", "all to all", "most to others", "seven to others"],
)
def test_pairs_of_one_attack_do_not_hide_each_other_in_the_tail(pairs):
    found = assess(plant(pairs), BEYOND)
    assert found.tail_p_value == 0.0
    assert (found.source, found.target) in pairs
    assert set(found.abnormal) <= set(pairs)


def test_few_pairs_have_no_tail_and_are_judged_by_the_null_alone():
    for num_classes in (3, 4):
        assert assess(ideal(num_classes), replace(BEYOND, null="gamma")).tail_p_value == 0.0
    alone = np.full((10, 10), np.nan)
    alone[:, 7] = ideal(10)[:, 0]
    alone[7, 7] = np.nan
    alone[0, 7] = 3.0
    assert assess(alone, BEYOND).tail_p_value == 0.0


def test_of_a_screened_search_the_pairs_that_were_chosen_are_the_tail():
    """Drawn pairs are ordinary; the nearest, which were chosen for it, are what a pair has to lie beyond."""
    reciprocals = look_alikes(60, 1, groups=120)
    drawn = np.random.default_rng(0).random(reciprocals.shape) < 0.08
    chosen = reciprocals >= np.sort(reciprocals[~np.isnan(reciprocals)])[-40]
    seen = np.where(drawn | chosen, reciprocals, np.nan)
    screened = Screened(drawn & ~np.isnan(reciprocals), 60 * 59)
    terms = replace(BEYOND, tells_power=False)
    assert assess(seen, terms, screened).tail_p_value > 0.1
    assert assess(seen, replace(terms, beyond_tail=False), screened).calibrated_p_value <= 0.05
    seen[3, 7] = 50.0 * np.nanmax(reciprocals)
    planted_one = assess(seen, terms, screened)
    assert (planted_one.tail_p_value, planted_one.source, planted_one.target) == (0.0, 3, 7)


def test_a_pair_in_the_tail_is_not_significant_at_any_significance():
    found = next(
        each
        for seed in range(80)
        if 0.1
        < (each := assess(look_alikes(10, seed, groups=12), replace(BEYOND, significance=0.9))).tail_p_value
        < 0.9
    )
    assert (found.p_value, found.calibrated_p_value) == (1.0, 1.0)
