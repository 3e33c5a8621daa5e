"""Targets in an order by the seed where a clock may end the search, else one after another."""

from __future__ import annotations

from backscan.scanner.config import ScanConfig
from backscan.scanner.detectors.targets import in_order


def test_targets_come_one_after_another():
    assert in_order(ScanConfig(), 5) == [0, 1, 2, 3, 4]
    assert in_order(ScanConfig(targets=(3, 1, 3)), 5) == [1, 3]


def test_under_a_limit_the_seed_draws_their_order():
    first, again, other = (in_order(ScanConfig(time_limit=9.0, seed=seed), 50) for seed in (0, 0, 1))
    assert sorted(first) == list(range(50))
    assert first == again != other
    assert first != list(range(50))
