"""Slopes and counts of contrasts are those of the networks that are named."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.accuracy import contrasts
from benchmarks.accuracy.rows import ROWS


class Scanned:
    """A network with sizes that go with a power of its margins."""

    def __init__(self, seed: int, slope: float, *, attacked: bool = False) -> None:
        rng = np.random.default_rng(seed)
        lead = np.exp(rng.normal(0.0, 0.4, size=8))
        margins = 3.0 * lead[:, None] / lead
        sizes = margins**slope
        np.fill_diagonal(sizes, np.nan)
        np.fill_diagonal(margins, 0.0)
        self.victim = type("Victim", (), {"targets": {1: 2} if attacked else {}})()
        row = type("Row", (), {"sizes": _plain(sizes), "margins": _plain(margins)})()
        self.scans = {"pairwise": row, "features J": row}


def _plain(values):
    return tuple(tuple(None if np.isnan(value) else float(value) for value in row) for row in values)


@pytest.mark.parametrize("slope", [0.4, 1.0])
def test_the_slope_is_that_of_unattacked_networks(slope: float) -> None:
    networks = [*(Scanned(seed, slope) for seed in range(3)), Scanned(3, -2.0, attacked=True)]
    for place, number, found, correlation in contrasts.slopes(networks):
        assert (number, float(found), float(correlation)) == ("3", pytest.approx(slope, abs=0.005), 1.0), place


def test_parts_of_the_rows_are_the_networks_of_their_seeds() -> None:
    choosing, reporting, later = (part.of("numbers", ROWS) for part in contrasts.PARTS)
    assert len(choosing) >= 20
    assert all(each.victim.seed < 2000 for each in choosing)
    assert reporting == later == []
    [(_, number, slope, _), _] = contrasts.slopes(choosing)
    assert int(number) >= 7
    assert 0.4 < float(slope) < 1.0
