"""Where a model stands among those that its user trusts."""

from dataclasses import replace

import numpy as np
import pytest

from backscan.scanner.inference.pool import among
from backscan.scanner.results import ScanResult
from tests.scanner.reports import examples


def report(p_value: float | None, number: int, **options: object) -> ScanResult:
    """A scan of a model of its own."""
    result = examples.detected(3)
    return replace(
        result,
        model=replace(result.model, sha256=f"{number:064x}"),
        calibrated_p_value=p_value,
        config=result.config | options,
    )


POOL = [report(p, number) for number, p in enumerate((0.02, 0.3, 0.5, 0.9, 1.0, 1.0, 0.7, 0.6, 0.4))]


@pytest.mark.parametrize(
    ("own", "p_value", "trimmed"),
    [(0.01, 0.1, 1 / 9), (0.02, 0.2, 1 / 9), (0.25, 0.2, 1 / 9), (0.3, 0.3, 2 / 9), (1.0, 1.0, 1.0)],
)
def test_the_rank_counts_those_that_are_at_least_as_extreme(own, p_value, trimmed):
    record = among(report(own, 99), POOL)
    assert (record.num_reports, record.num_other, record.num_trimmed) == (9, 0, 1)
    assert record.p_value == pytest.approx(p_value)
    assert record.trimmed_p_value == pytest.approx(trimmed)


def test_a_model_like_those_of_the_pool_is_below_a_level_at_most_that_often():
    """Of 2000 pools of 39, 5 % +- 3 standard errors (.005 each) are at or below .05; whatever the distribution."""
    rng = np.random.default_rng(5)
    ranks = []
    for _ in range(2000):
        drawn = rng.beta(0.3, 2.0, 40)
        pool = [report(float(p), number) for number, p in enumerate(drawn[1:])]
        ranks.append(among(report(float(drawn[0]), 99), pool).p_value)
    assert 0.035 <= np.mean(np.array(ranks) <= 0.05) <= 0.065


def test_what_cannot_be_compared_is_counted_and_left_out():
    others = [report(0.1, 99), report(None, 1), report(0.1, 2, detectors=["margin"]), report(0.1, 3, norm="l1")]
    assert among(report(0.2, 99), others) is None
    record = among(report(0.2, 99), [*others, report(0.4, 4, cut="elsewhere", significance=0.01)])
    assert (record.num_reports, record.num_other, record.p_value) == (1, 4, 0.5)
    assert among(report(None, 99), POOL) is None
