"""Statistics: one contract for every table entry, then what each is for."""

import numpy as np
import pytest
from scipy.stats import f_oneway

from backscan.scanner.config import TARGET_STATISTICS
from backscan.scanner.inference.statistics import STATISTICS

of_pairs = {name: statistic for name, statistic in STATISTICS.items() if name not in TARGET_STATISTICS}
every_statistic = pytest.mark.parametrize("statistic", STATISTICS.values(), ids=STATISTICS)
every_pair_statistic = pytest.mark.parametrize("statistic", of_pairs.values(), ids=of_pairs)


def matrices(num_classes=5, seed=0, leading=()):
    values = np.random.default_rng(seed).gamma(3.0, size=(*leading, num_classes, num_classes))
    values[..., np.eye(num_classes, dtype=bool)] = np.nan
    return values


@every_statistic
def test_leading_axes_are_other_matrices(statistic):
    stack = matrices(leading=(2, 3))
    np.testing.assert_array_equal(statistic(stack)[1, 2], statistic(stack[1, 2]))
    assert statistic(stack).shape in (stack.shape, (2, 3, 1, 5))


@every_pair_statistic
def test_keeps_the_diagonal_out_and_the_pairs_in(statistic):
    values = statistic(matrices())
    np.testing.assert_array_equal(np.isnan(values), np.eye(5, dtype=bool))
    assert np.all(values[~np.isnan(values)] > 0.0)


@every_statistic
def test_argument_is_left_alone(statistic):
    given = matrices()
    given.flags.writeable = False
    statistic(given)


@every_statistic
def test_common_scale_is_a_common_factor(statistic):
    ratio = statistic(1e6 * matrices()) / statistic(matrices())
    assert np.nanmax(ratio) == pytest.approx(np.nanmin(ratio), rel=1e-12)


@every_pair_statistic
def test_missing_pairs_stay_missing(statistic):
    given = matrices()
    given[1] = np.nan
    given[0, 2] = np.nan
    assert np.all(np.isnan(statistic(given)[np.isnan(given)]))


@every_pair_statistic
def test_grows_with_its_own_pair(statistic):
    given = matrices()
    larger = given.copy()
    larger[3, 1] *= 4.0
    assert statistic(larger)[3, 1] > statistic(given)[3, 1]


def test_plain_is_the_reciprocal():
    np.testing.assert_array_equal(STATISTICS["plain"](matrices()), matrices())


@pytest.mark.parametrize("missing", [(), (0,), (0, 2), (0, 2, 3)])
def test_source_normalised_divides_by_the_median_of_what_is_there(missing):
    given = matrices(num_classes=6)
    given[4, list(missing)] = np.nan
    values = STATISTICS["source-normalised"](given)
    np.testing.assert_allclose(values[4], given[4] / np.nanmedian(given[4]), rtol=1e-14)


def test_source_normalised_removes_a_factor_of_the_source():
    scaled = matrices() * np.array([1.0, 5.0, 0.2, 1.0, 3.0])[:, None]
    np.testing.assert_allclose(
        STATISTICS["source-normalised"](scaled), STATISTICS["source-normalised"](matrices()), rtol=1e-12
    )


def test_source_adjusted_shrinks_the_effects_of_sources_by_the_f_ratio_of_the_rows():
    given = matrices() * np.array([1.0, 5.0, 0.2, 1.0, 3.0])[:, None]
    rows = [np.log(row[~np.isnan(row)]) for row in given]
    share = 1.0 - 1.0 / f_oneway(*rows).statistic
    assert 0.1 < share < 0.99
    effects = np.array([row.mean() for row in rows]) - np.mean([row.mean() for row in rows])
    np.testing.assert_allclose(
        STATISTICS["source-adjusted"](given), given * np.exp(-share * effects)[:, None], rtol=1e-12
    )


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_source_adjusted_takes_one_planted_pair_for_no_effect_of_its_source(num_classes):
    given = np.ones((num_classes, num_classes))
    given[np.eye(num_classes, dtype=bool)] = np.nan
    given[0, 1] = 7.0
    np.testing.assert_allclose(STATISTICS["source-adjusted"](given), given, rtol=1e-12)


@pytest.mark.parametrize("targets", [[1], [1, 2], [1, 2, 4]])
def test_source_adjusted_leaves_the_pairs_of_few_targets_as_they_are(targets):
    """The only pair of a source would be its effect: a planted one, as wanted targets leave it, would be lost."""
    given = np.full((5, 5), np.nan)
    given[:, targets] = matrices(num_classes=5)[:, targets]
    given[0, 1] *= 9.0
    np.testing.assert_allclose(STATISTICS["source-adjusted"](given), given, rtol=1e-12)


def test_source_adjusted_leaves_out_sources_without_pairs():
    given = matrices(num_classes=6) * np.array([1.0, 5.0, 0.2, 1.0, 3.0, 2.0])[:, None]
    given[2] = np.nan
    rest = np.delete(given, 2, axis=0)
    np.testing.assert_allclose(
        np.delete(STATISTICS["source-adjusted"](given), 2, axis=0), STATISTICS["source-adjusted"](rest), rtol=1e-12
    )


def test_reverse_controlled_compares_with_the_reversed_pair():
    given = matrices()
    given[0, 1], given[1, 0] = 8.0, 4.0
    values = STATISTICS["reverse-controlled"](given)
    assert values[0, 1] == pytest.approx(8.0 / 2.0)
    assert values[1, 0] == pytest.approx(4.0 / 8.0**0.5)


def test_reverse_controlled_loses_pairs_whose_reverse_is_missing():
    given = matrices()
    given[2, 0] = np.nan
    assert np.isnan(STATISTICS["reverse-controlled"](given)[0, 2])


EFFECTS = np.array([1.0, 5.0, 0.2, 1.0, 3.0])


@pytest.mark.parametrize("effects", [EFFECTS[:, None], EFFECTS[None]], ids=["source", "target"])
@pytest.mark.parametrize("name", ["residual", "residual-reverse-controlled"])
def test_residual_is_free_of_source_and_target_effects(name, effects):
    np.testing.assert_allclose(STATISTICS[name](matrices() * effects), STATISTICS[name](matrices()), rtol=1e-6)


def test_residual_is_what_least_squares_leaves():
    given = matrices(num_classes=6)
    given[1, 4] = np.nan
    sources, targets = np.nonzero(~np.isnan(given))
    design = np.concatenate([np.eye(6)[sources], np.eye(6)[targets]], axis=1)
    logs = np.log(given[sources, targets])
    effects, *_ = np.linalg.lstsq(design, logs, rcond=None)
    np.testing.assert_allclose(
        np.log(STATISTICS["residual"](given)[sources, targets]), logs - design @ effects, atol=1e-6
    )


def test_residual_reverse_controlled_halves_similarity():
    similarity = np.exp(np.random.default_rng(1).normal(size=(5, 5)))
    symmetric = similarity * similarity.T
    name = "residual-reverse-controlled"
    ratio = STATISTICS[name](matrices() * symmetric) / STATISTICS[name](matrices())
    expected = np.where(np.eye(5, dtype=bool), np.nan, symmetric)
    np.testing.assert_allclose(ratio, np.sqrt(STATISTICS["residual"](expected)), rtol=1e-6)


def test_target_wise_is_the_geometric_mean_of_a_column():
    given = matrices()
    given[0, 2] = np.nan
    values = STATISTICS["target-wise"](given)
    assert values.shape == (1, 5)
    np.testing.assert_allclose(values[0, 2], np.prod(given[[1, 3, 4], 2]) ** (1 / 3), rtol=1e-12)


def test_a_target_without_pairs_has_no_value():
    given = matrices()
    given[:, 2] = np.nan
    np.testing.assert_array_equal(np.isnan(STATISTICS["target-wise"](given)[0]), np.arange(5) == 2)


def test_target_contrast_sets_a_column_against_the_row_of_the_same_class():
    given = matrices()
    given[0, 2] = np.nan
    values = STATISTICS["target-contrast"](given)
    assert values.shape == (1, 5)
    expected = np.prod(given[[1, 3, 4], 2]) ** (1 / 3) / np.prod(given[2, [0, 1, 3, 4]]) ** (1 / 4)
    np.testing.assert_allclose(values[0, 2], expected, rtol=1e-12)


def test_target_contrast_is_blind_to_what_works_both_ways():
    similarity = np.exp(np.random.default_rng(1).normal(size=(5, 5)))
    name = "target-contrast"
    np.testing.assert_allclose(
        STATISTICS[name](matrices() * similarity * similarity.T), STATISTICS[name](matrices()), rtol=1e-9
    )
