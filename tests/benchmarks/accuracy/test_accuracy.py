"""The accuracy study: what is concluded from kept scans, and that nothing is trained, scanned or counted twice."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from backscan.scanner import ScanConfig
from backscan.scanner.config import MANY_CLASSES
from backscan.scanner.inference.variants import infer_pairs
from backscan.scanner.results import PairResult, PairStatus, Trajectory
from benchmarks.accuracy import report
from benchmarks.accuracy.comparison import Record, area, comparison
from benchmarks.accuracy.condense import at_rate
from benchmarks.accuracy.fine_pruning import last_layer, prune
from benchmarks.accuracy.outcomes import CANDIDATES, JUDGES, Judge, Outcome, anomaly, combined, default, outcome
from benchmarks.accuracy.rows import Row, ScanRow, VictimRow, read_rows, write_rows
from benchmarks.accuracy.scans import SETTINGS, find_scan
from benchmarks.accuracy.study import Examined, Place, Study, collect, harvest, make
from benchmarks.accuracy.tables import tables
from benchmarks.provenance import share
from benchmarks.victims.images import clean_images
from benchmarks.victims.plans import make_plans
from benchmarks.victims.victims import find

pytestmark = pytest.mark.filterwarnings(
    "ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning"
)
GROUPS = ["BD-G-S", "Clean"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    """One attacked and one unattacked classifier of the trial preset, trained and scanned."""
    made = Place("trial", tmp_path_factory.mktemp("study"))
    assert len(list(make(made, (), GROUPS, ["pairwise"], [0]))) == 2
    return made


@pytest.fixture(scope="module")
def rows(place: Place) -> tuple[Row, ...]:
    """What is kept of them."""
    return harvest(place, (), GROUPS, list(SETTINGS), [0])


def test_what_has_a_row_is_neither_trained_nor_scanned(rows: tuple[Row, ...], tmp_path: Path) -> None:
    bare = Place("trial", tmp_path / "lost")
    assert list(make(bare, rows, GROUPS, ["pairwise"], [0])) == []
    assert not any(bare.cache.iterdir())


def pair(rates: tuple[float, ...], status: PairStatus = PairStatus.REACHED) -> PairResult:
    sizes = tuple(float(step) for step in range(len(rates)))
    return PairResult(
        "pairwise", 0, 1, status, sizes[-1], rates[0], rates[-1], len(rates) - 1, trajectory=Trajectory(sizes, rates)
    )


@pytest.mark.parametrize(("rate", "size"), [(0.5, 1.75), (0.2, 1.0), (0.1, 0.5), (0.9, 3.0)])
def test_size_at_a_lower_goal_rate_is_where_the_trajectory_crosses_it(rate: float, size: float) -> None:
    assert at_rate(pair((0.0, 0.2, 0.6, 0.9)), rate).size == pytest.approx(size)


def test_pair_that_starts_above_a_goal_rate_is_confused_and_one_that_never_gets_there_keeps_its_size() -> None:
    assert at_rate(pair((0.5, 0.8)), 0.4).status is PairStatus.ALREADY_CONFUSED
    unreached = pair((0.0, 0.3), PairStatus.SIZE_LIMIT)
    assert at_rate(unreached, 0.4) == unreached


def test_several_tests_share_the_significance(rows: tuple[Row, ...]) -> None:
    [examined] = collect(rows, ["BD-G-S"]).groups["BD-G-S"]
    single = [examined.judged(Judge(("pairwise",), (name,))) for name in ("plain", "source-normalised")]
    both = examined.judged(Judge(("pairwise",), ("plain", "source-normalised")))
    assert both.p_value == min(1.0, 2 * min(each.p_value for each in single))
    assert combined([]) == Outcome(1.0, None, None)


def test_a_victim_is_judged_rightly_by_its_own_pair(rows: tuple[Row, ...]) -> None:
    [examined] = collect(rows, ["BD-G-S"]).groups["BD-G-S"]
    [(source, target)] = examined.victim.targets
    right, wrong_source = Outcome(0.01, source, target), Outcome(0.01, target, target)
    assert (right.names_pair(examined.victim, 0.05), right.names_target(examined.victim, 0.05)) == (True, True)
    assert (wrong_source.names_pair(examined.victim, 0.05), wrong_source.names_target(examined.victim, 0.05)) == (
        False,
        True,
    )
    assert not right.names_target(examined.victim, 0.001)


def test_planted_pair_is_found_and_counted(rows: tuple[Row, ...]) -> None:
    found = collect(rows, GROUPS)
    judge = Judge(("pairwise",), published=True)
    assert found.share("BD-G-S", judge, significance=0.05, of="pair") == share(1, 1)
    assert found.share("BD-G-S", Judge(("J",)), significance=0.05, of="pair") == "", "no scan, no cell"
    parts = [found.part(reporting=reporting).groups["Clean"] for reporting in (False, True)]
    assert [len(part) for part in parts] == [1, 0]


def test_what_is_there_is_not_made_again(place: Place) -> None:
    before = {path: path.stat().st_mtime_ns for path in place.cache.iterdir()}
    list(make(place, (), GROUPS, ["pairwise"], [0]))
    assert {path: path.stat().st_mtime_ns for path in place.cache.iterdir()} == before


def test_command_writes_tables_and_figures_of_what_is_there(place: Place, tmp_path: Path, monkeypatch, capsys) -> None:
    command = ["accuracy", "--preset", "trial", "--count", "1", "--cache", str(place.cache), "--no-work"]
    monkeypatch.setattr(sys, "argv", [*command, "--rows", str(tmp_path), "--out", str(tmp_path)])
    report.main()
    document = json.loads((tmp_path / "accuracy_trial.json").read_text())
    assert len(document["tables"]) == len(tables(collect((), [])))
    assert "| BD-G-S | 1 |" in capsys.readouterr().out
    bare = ["accuracy", "--preset", "trial", "--no-work", "--cache", str(tmp_path / "nothing")]
    monkeypatch.setattr(sys, "argv", [*bare, "--rows", str(tmp_path), "--out", str(tmp_path / "again")])
    report.main()
    again = json.loads((tmp_path / "again" / "accuracy_trial.json").read_text())
    assert again["tables"] == document["tables"], "rows alone must give the same tables"
    assert {path.name for path in tmp_path.glob("*.svg")} == {
        f"accuracy_trial_{name}.svg" for name in ("roc", "collateral", "curves")
    }


def test_rows_survive_writing_and_outdated_ones_are_left_out(rows: tuple[Row, ...], tmp_path: Path) -> None:
    write_rows(rows, "trial", tmp_path)
    assert read_rows("trial", tmp_path).rows == rows
    lines = (tmp_path / "trial.jsonl").read_text()
    [plan] = make_plans("trial", "Clean", [0])
    for old, new in ((plan.digest, "0" * 16), ('"format":[1,', '"format":[0,'), ('"search":"', '"search":"0')):
        (tmp_path / "trial.jsonl").write_text(lines.replace(old, new))
        kept = read_rows("trial", tmp_path)
        assert kept.outdated == lines.count(old) > 0
        assert len(kept.rows) + kept.outdated == len(rows)
    assert read_rows("trial", tmp_path / "nothing").rows == ()


@pytest.mark.parametrize(
    ("statistic", "inference"), [("plain", "principal"), ("residual", "principal"), ("plain", "corrected")]
)
def test_rows_judge_as_the_scans_they_were_made_of(
    place: Place, rows: tuple[Row, ...], statistic: str, inference: str
) -> None:
    [row] = [each for each in rows if isinstance(each, ScanRow) and each.group == "BD-G-S"]
    [plan] = make_plans("trial", "BD-G-S", [0])
    result = find_scan(find(plan, cache=place.cache), "pairwise", cache=place.cache).result
    kept = ScanConfig.from_dict(result.config)
    config = replace(kept, statistics=(statistic,), inference=inference, null="gamma")
    [inferred] = infer_pairs(result.pairs, config, 4, detector="pairwise", space="image")
    found = outcome([row], Judge(("pairwise",), (statistic,), inference=inference, published=True))
    assert found.p_value == pytest.approx(inferred.p_value, rel=0.01)
    assert (found.source, found.target) == (inferred.source, inferred.target)


def test_neural_cleanse_and_margins_are_judged_by_the_class_that_stands_out(rows: tuple[Row, ...]) -> None:
    [row] = [each for each in rows if isinstance(each, ScanRow) and each.group == "BD-G-S"]
    masks = anomaly(replace(row, setting="NC-L1-1.5", sizes=((5.0, 5.2, 1.0, 4.9, 5.1, None),)))
    assert masks.target == 2
    assert masks.index > 2.0
    assert masks.p_value < 0.01  # of five values one is five times smaller
    margins = anomaly(replace(row, setting="margin", sizes=((3.0, 3.2, 30.0, 2.9, 3.1, 3.3),)))
    assert margins.target == 2
    assert margins.p_value < 0.05


def test_few_false_alarms_come_first_then_detections_then_the_area() -> None:
    loud, right, keen, poor = (
        Record(found, 10, alarms, 20, area)
        for found, alarms, area in ((10, 3, 1), (8, 1, 0.9), (8, 2, 0.95), (7, 0, 1))
    )
    assert sorted([loud, right, keen, poor], key=lambda each: each.rank) == [keen, right, poor, loud]
    assert area([0.1, 2.0, 0.3], [0.3, 0.5]) == pytest.approx((1.0 + 0.0 + 0.75) / 3)


def test_tables_show_what_the_default_does_wherever_it_ranks(rows: tuple[Row, ...]) -> None:
    judge, config = CANDIDATES[default()], ScanConfig()
    assert (judge.statistics, judge.inference, judge.null) == (config.statistics, config.inference, config.null)
    assert [SETTINGS[setting]["detectors"] for setting in judge.settings] == [(name,) for name in MANY_CLASSES]
    features = [replace(row, setting="features J") for row in rows if isinstance(row, ScanRow)]
    hits, counts = (((each,) * 4,) * 4 for each in (1.0, 20.0))
    windows = [replace(row, setting="window", side=3, hits=hits, counts=counts) for row in features]
    masks = [replace(row, setting="mask", sizes=((4.0, 5.0, 6.0, 7.0),)) for row in windows]
    larger = [replace(row, setting="large-window", side=4) for row in windows]
    made = list(comparison(collect((*rows, *features, *windows, *larger, *masks), GROUPS)))
    assert len(made) == 3
    for table in made:
        assert [row[0] for row in table.rows].count(f"{default()} (default)") == 1


def test_judges_ask_for_searches_that_exist() -> None:
    for judge in (*JUDGES.values(), *CANDIDATES.values()):
        assert set(judge.settings) <= SETTINGS.keys()


def linear_classifier() -> bytes:
    """Two classes; unit 0 passes pixel 0 on and decides for class 1, unit 1 passes pixel 1 on and tells the classes."""
    weight = np.array([[0.0, -1.0], [10.0, 1.0]], np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["images"], ["features"]),
            helper.make_node("Gemm", ["features", "w", "b"], ["logits"], transB=1),
        ],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 1, 1, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.array([0.5, -0.5], np.float32), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_last_layer_with_all_units_is_the_model_and_pruning_takes_the_attack_away() -> None:
    layer = last_layer(linear_classifier())
    images = np.random.default_rng(0).random((50, 1, 1, 2), np.float32)
    np.testing.assert_allclose(layer.features(images), images.reshape(50, 2))
    attacked = np.array([[1.0, 0.0]], np.float32)
    assert layer.decide(attacked, np.array([True, True])) == [1]
    assert layer.decide(attacked, np.array([False, True])) == [0]


def test_pruning_keeps_the_clean_accuracy(place: Place) -> None:
    [plan] = make_plans("trial", "BD-G-S", [0])
    victim = find(plan, cache=place.cache)
    pruned = prune(victim, clean_images(plan))
    assert 0.0 <= pruned.share < 1.0
    assert pruned.accuracy[1] >= pruned.accuracy[0] - 0.2  # the loss is bounded on the ranking half only
    [unattacked] = make_plans("trial", "Clean", [0])
    with pytest.raises(ValueError, match="expected a victim with an attack"):
        prune(find(unattacked, cache=place.cache), clean_images(unattacked))


def test_a_model_that_does_not_end_in_a_linear_layer_is_refused() -> None:
    model = onnx.load_model_from_string(linear_classifier())
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["p"]))
    with pytest.raises(ValueError, match=r"expected a classifier that ends in a Gemm .* found Softmax"):
        last_layer(model.SerializeToString())


def test_victims_choose_or_report_by_their_seeds(rows: tuple[Row, ...]) -> None:
    [row] = [each for each in rows if isinstance(each, VictimRow) and each.group == "Clean"]
    study = Study({"Clean": [Examined(replace(row, seed=seed), {}) for seed in (0, 1999, 2000, 2001)]})
    seeds = [[each.victim.seed for each in study.part(reporting=part).groups["Clean"]] for part in (False, True)]
    assert seeds == [[0, 1999], [2000, 2001]]
