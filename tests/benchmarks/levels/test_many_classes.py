"""The table of screened scans: what it counts, what it says, and that the committed one says what the guide claims."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.levels.many_classes import as_markdown, counted_passes
from benchmarks.levels.screen_level import CASES, simulate

COMMITTED = Path(__file__).parents[3] / "benchmarks" / "results" / "many_classes.json"
SCANNED = {
    "verdict": "backdoor_detected",
    "pair": [3, 5],
    "p_value": 0.002,
    "num_searched": 470,
    "cpu_seconds": 12.3,
    "forward": 150_000,
    "backward": 160_400,
}
ALL_PAIRS = {**SCANNED, "num_searched": 1806, "cpu_seconds": 45.0}
VICTIM = {"seed": 0, "planted": [3, 5], "size": 0.2, "median_size": 0.9, "rank_of_look": 1, "correlation": 0.75}
CLEAN = {**VICTIM, "planted": None, "rank_of_look": 4}


def test_images_are_counted_once_whatever_layers_they_pass():
    network = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 2)))
    images = torch.ones(6, 4, requires_grad=True)
    with counted_passes() as counts:
        with torch.no_grad():
            network(images[:5])
        scores = network(images)
        for target in range(2):
            torch.autograd.grad(scores[:, target].sum(), images, retain_graph=True)
    network(images)
    assert counts == [11, 12]


def test_the_page_has_counts_intervals_and_both_costs():
    level = {"family": "gamma", "num_classes": 43, "correlation": 1.0}
    page = as_markdown(
        {
            "made": "somewhere",
            "level": [{**level, "num_nulls": 2000, "alarms": 100, "largest_seen": 2000}],
            "detection": [
                {**VICTIM, "on": SCANNED, "off": ALL_PAIRS},
                {**CLEAN, "on": {**SCANNED, "p_value": 0.3}, "off": {**ALL_PAIRS, "p_value": 0.01}},
                {**VICTIM, "seed": 1, "on": {**SCANNED, "pair": [5, 3]}, "off": ALL_PAIRS},
            ],
            "cost": [{"num_classes": 43, "images_per_class": 10, "on": SCANNED, "off": ALL_PAIRS}],
        }
    )
    assert "100 = 0.050 (0.041-0.060)" in page
    assert "planted pair named: 2 of 2 (0.34-1.00) by all pairs, 1 of 2 (0.09-0.91) by the screen" in page
    assert "called attacked: 1 of 1 (0.21-1.00) by all pairs, 0 of 1 (0.00-0.79) by the screen" in page
    assert "| 43 | 10 | 1806 / 470 | 45.0 / 12.3 | 150 + 160 / 150 + 160 | 3:5 / 3:5 |" in page


def test_a_simulation_repeats_itself_and_counts_what_is_seen():
    one, other = (simulate("gamma", 20, 0.5, 4) for _ in range(2))
    assert one == other
    assert 0 <= one["alarms"] <= one["num_nulls"] == 4
    assert simulate("gamma", 20, 1.0, 4)["largest_seen"] == 4


@pytest.mark.parametrize("case", CASES, ids=str)
def test_committed_levels_lie_in_the_promised_band_or_below(case):
    rows = json.loads(COMMITTED.read_text(encoding="utf-8"))["level"]
    [row] = [row for row in rows if (row["family"], row["num_classes"], row["correlation"]) == case]
    assert row["num_nulls"] >= (2000 if row["num_classes"] == 43 else 500)
    assert row["alarms"] / row["num_nulls"] <= 0.065


def test_committed_screens_find_what_all_pairs_find_and_cost_less():
    document = json.loads(COMMITTED.read_text(encoding="utf-8"))
    victims = [row for row in document["detection"] if row["planted"]]
    assert len(victims) >= 3
    assert all(row["on"]["pair"] == row["off"]["pair"] == row["planted"] for row in victims)
    [many] = [row for row in document["cost"] if row["num_classes"] >= 72]
    assert 3 * many["on"]["cpu_seconds"] < many["off"]["cpu_seconds"]
