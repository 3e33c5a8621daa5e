"""How ways there and back of unattacked networks are counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from backscan.scanner.inference.transfer import NATURAL_SPREAD
from benchmarks.accuracy import one_way
from benchmarks.accuracy.outcomes import concluded_of_few, of_few_classes
from benchmarks.accuracy.rows import ScanRow

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def row(sizes, individual=(), **given) -> ScanRow:
    return ScanRow(
        group="g",
        seed=0,
        digest="0",
        setting="s",
        search="0",
        images=30,
        seconds=0.0,
        verdict="not_detected",
        confirmed=None,
        sizes=sizes,
        individual=individual,
        **given,
    )


def test_a_way_is_half_explained_by_single_images():
    found = one_way.ways(
        row(
            ((None, 1.0, 2.0), (3.0, None, None), (2.0, 5.0, None)),
            ((None, 0.5, 1.0), (0.8, None, 1.0), (1.0, 1.0, None)),
        )
    )
    assert found == pytest.approx([np.log(3.0) - np.log(0.8 / 0.5) / 2, 0.0])


def test_rows_of_few_classes_give_what_the_scanner_concludes():
    """Its transfer keeps the way there over the way back, and the sizes are those of the pairs."""
    kept = row(((None, 1.0), (4.0, None)), transfers={"0:1": (0.1, 0.02, 0.8), "1:0": (0.0, 0.01, 1.25)})
    transferred, ways = concluded_of_few(kept)
    assert transferred.calibrated_p_value == 1.0
    assert ways.values[0][1] == pytest.approx(np.log(4.0) - np.log(1 / 0.8) / 2)
    outcome = of_few_classes(kept)
    assert (outcome.source, outcome.target) == (0, 1)
    assert outcome.p_value == pytest.approx(2 * ways.calibrated_p_value)
    unreached = row(kept.sizes, transfers=kept.transfers, statuses={"0:1": "size_limit"})
    assert concluded_of_few(unreached)[1].values[0][1] is None


def test_the_spread_is_that_of_no_unattacked_network_in_git():
    spreads = json.loads((RESULTS / "one_way.json").read_text(encoding="utf-8"))["spreads"]
    largest = max(float(cell) for *_, deviations, _ in spreads for cell in deviations.split(", "))
    assert 0.25 < largest < NATURAL_SPREAD
