"""A scan that its clock ends: what is said then, and that the clock is kept."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from backscan.scanner.errors import TimeUpError
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.inference.verdict import Judgement
from backscan.scanner.pipeline import pairs as pairs_module
from backscan.scanner.pipeline import spending
from backscan.scanner.pipeline.estimate import Costs, Sizes
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.process.parent import PreparedSearch, SettledModel
from backscan.scanner.process.protocol import Speed
from backscan.scanner.results import LeftToSearch, ScanResult, TimeRecord, Verdict
from tests.scanner.pipeline.scans import QUICK, SOURCE, TARGET, write_images, write_model
from tests.scanner.reports import examples

LIMITED = replace(QUICK, time_limit=1000.0)
CLEARED = Judgement(Verdict.NOT_DETECTED, ("no pair is abnormally small",))


def scan_cut_off(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, after: int, config=LIMITED, **model: object
) -> ScanResult:
    """A scan of a planted model whose clock ends it after some pairs."""
    left, optimise = [after], PreparedSearch.optimise

    def until_then(self: PreparedSearch, pairs, *, seconds, on_pair):
        done = optimise(self, pairs[: left[0]], seconds=seconds, on_pair=on_pair) if left[0] else []
        left[0] -= len(done)
        if len(done) < len(pairs):
            raise TimeUpError("the time is up")
        return done

    monkeypatch.setattr(PreparedSearch, "optimise", until_then)
    monkeypatch.setattr(pairs_module, "_MOST_PAIRS", 2)  # short chunks, though these pairs take no time
    path = write_images(folder)
    return scan(write_model(folder, **model), CleanSet.load(path), config)


def test_nothing_is_cleared_by_a_part_of_the_search(tmp_path, monkeypatch):
    result = scan_cut_off(tmp_path, monkeypatch, after=17, source=None)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reasons[0].startswith("the time limit of 1000 s ended the search")
    # The p of what was searched, and the sentence about it.
    assert result.deciding_conclusion.calibrated_p_value > 0.05
    assert result.deciding_conclusion.num_pairs == len(result.pairs) == 17
    assert len(result.reasons) > 2
    [screen] = result.screens
    assert screen.num_drawn + screen.num_chosen == 17
    num_pairs = result.model.num_classes * (result.model.num_classes - 1)
    left = f"{num_pairs - 17} of {num_pairs} class pairs"
    assert f"{left} with detector pairwise: the search did not finish" in "".join(result.not_tested)
    assert result.reasons[1].startswith(f"left to search: {left} (pairwise)")
    assert "(all of it takes about" in result.reasons[0]
    assert result.time is not None
    assert result.time.ended_the_scan
    assert [(each.detector, each.number, each.planned) for each in result.time.left] == [
        ("pairwise", num_pairs - 17, num_pairs)
    ]


def test_a_detection_that_was_confirmed_in_time_stands(tmp_path, monkeypatch):
    result = scan_cut_off(tmp_path, monkeypatch, after=18)
    assert (SOURCE, TARGET) in {(pair.source, pair.target) for pair in result.pairs}
    assert result.verdict is Verdict.BACKDOOR_DETECTED
    assert (result.source, result.target) == (SOURCE, TARGET)
    assert result.verification.confirmed
    assert result.reasons[-2].startswith("the time limit of 1000 s ended the search")
    assert "takes nothing from this detection" in result.reasons[-2]
    assert result.reasons[-1].startswith("left to search: ")


def test_a_search_that_found_nothing_in_time_says_no_more(tmp_path, monkeypatch):
    result = scan_cut_off(tmp_path, monkeypatch, after=0)
    assert result.verdict is Verdict.INCONCLUSIVE
    reason, left = result.reasons
    assert left.startswith("left to search: ")
    assert reason.startswith("the time limit of 1000 s ended the search")
    assert result.calibrated_p_value is None


def test_a_detection_that_the_clock_left_no_replay_is_none(tmp_path, monkeypatch):
    def late(*_: object, **__: object) -> None:
        raise TimeUpError("the time is up")

    monkeypatch.setattr("backscan.scanner.pipeline.conclusion.replay", late)
    result = scan_cut_off(tmp_path, monkeypatch, after=1000)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert any("was not replayed on the original file" in reason for reason in result.reasons)
    assert result.verification is None


def test_before_the_search_a_clock_leaves_no_verdict(tmp_path, monkeypatch):
    def late(*_: object, **__: object) -> None:
        raise TimeUpError("the time limit of 1000 s was over while the model was opened: raise --time-limit")

    monkeypatch.setattr(SettledModel, "compare", late)
    result = scan_cut_off(tmp_path, monkeypatch, after=0)
    assert result.verdict is Verdict.NO_VERDICT
    assert result.reasons == ("the time limit of 1000 s was over while the model was opened: raise --time-limit",)
    assert result.time is not None
    assert result.time.ended_the_scan  # so that no cache keeps it


def test_a_scan_that_is_done_in_time_is_a_whole_one(tmp_path, monkeypatch):
    result = scan_cut_off(tmp_path, monkeypatch, after=1000, source=None)
    assert result.verdict is Verdict.NOT_DETECTED
    assert result.screens == ()
    assert result.time is not None
    assert not result.time.ended_the_scan
    assert result.time.left == ()


def test_a_detector_that_lacks_images_was_not_ended_by_the_clock(tmp_path):
    """With 12 images a class the windows have no sources, and end at once."""
    few = write_images(tmp_path, keep=dict.fromkeys(range(6), 12))
    result = scan(write_model(tmp_path), few, replace(LIMITED, detectors=("pairwise", "window")))
    assert result.time is not None
    assert (result.time.ended_the_scan, result.time.left) == (False, ())
    assert result.verdict is Verdict.BACKDOOR_DETECTED
    assert "time limit" not in " ".join((*result.reasons, *result.not_tested))


def test_a_real_limit_is_kept(tmp_path):
    """Pairs towards a class that no image reaches, and a process that is ended while it searches or before."""
    endless = replace(QUICK, sandbox=True, max_steps=1_000_000, max_size=1e9, time_limit=6.0)
    model, images = write_model(tmp_path), write_images(tmp_path, keep={4: 0})
    graph = onnx.load(model)
    (bias,) = (tensor for tensor in graph.graph.initializer if tensor.name == "bias")
    far = numpy_helper.to_array(bias) - [0, 0, 0, 0, 10_000]
    bias.CopyFrom(numpy_helper.from_array(far.astype(np.float32), "bias"))
    onnx.save(graph, model)
    started = time.monotonic()
    result = scan(model, images, replace(endless, pairs=((0, 4), (1, 4), (2, 4), (3, 4))))
    taken = time.monotonic() - started
    assert result.verdict in (Verdict.INCONCLUSIVE, Verdict.NO_VERDICT)
    assert any("the time limit of 6 s" in reason for reason in result.reasons)
    assert taken < 1.1 * 6.0 + 3.0  # libraries that are loaded here for the first time, on a machine that is busy


@pytest.mark.parametrize("conclusions", [(), examples.not_detected().detectors])
def test_a_limit_never_clears(conclusions):
    found = spending.limited(CLEARED, conclusions, TimeRecord(1000.0, 1000.0, None, ended_the_scan=True))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reasons[1:] == (CLEARED.reasons if conclusions else ())


def test_a_detector_that_the_clock_left_too_little_needs_no_more_images() -> None:
    left = (LeftToSearch("pairwise", "class pair", 90, 90),)
    doubts = ("detector pairwise: expected at least 3 classes with enough images", "detector features: no null")
    judged = Judgement(Verdict.INCONCLUSIVE, doubts)
    clock = TimeRecord(25.0, 25.0, 35.0, ended_the_scan=True, left=left, seconds_left=18.0)
    found = spending.limited(judged, examples.not_detected().detectors, clock)
    assert found.reasons == (
        "the time limit of 25 s ended the search about 18 s before it was done (all of it takes about 35 s here), so a "
        "backdoor in what it left out may not have been noticed: raise --time-limit",
        "left to search: 90 of 90 class pairs (pairwise)",
        "detector features: no null",
    )


def test_looks_at_many_targets_cost_no_more_with_more_of_them():
    speed, config = Speed(0.01, 0.03, 1000), QUICK.__class__(detectors=("reach",))
    few, many = (
        Costs.of(config, Sizes(number, [16] * 20, (3, 224, 224)), speed, screened=True) for number in (200, 1000)
    )
    assert few.total == many.total
    # Nine places a side, where the last one may lie at the edge, four contents, six images; then features.
    assert 6 * 4 * 81 + 160 <= many.total / 0.01 <= 6 * 4 * 100 + 170
    # Where a target stands out 17 windows are climbed: three places on nine images, one four times on 18; 100 counted.
    gradients, forwards = 3 * 9 + 4 * 18, 3 * 9 + 18 + 100
    assert few.more == many.more == pytest.approx(17 * (0.03 * gradients + 0.01 * forwards))
    assert Costs.of(QUICK.__class__(), Sizes(10, [16] * 10, (3, 32, 32)), speed, screened=False).more == 0.0


def test_what_a_scan_costs_grows_with_what_it_does():
    speed, shape = Speed(0.01, 0.03, 1000), (3, 32, 32)
    config = QUICK.__class__(detectors=("pairwise", "features", "window"))

    def costs(num_classes: int, images: int, *, screened: bool = False) -> Costs:
        return Costs.of(config, Sizes(num_classes, [images] * num_classes, shape), speed, screened=screened)

    ten = costs(10, 100)
    assert list(ten.by_detector) == ["pairwise", "features", "window"]
    assert costs(20, 100).total > 3 * ten.by_detector["pairwise"]
    # Individual sizes are measured where they are asked for, by the first detector alone, with 25 images or more.
    assert ten.a_pair["pairwise"] == ten.a_pair["features"]
    config = replace(config, statistics=("commonality",))
    assert costs(10, 100).a_pair["pairwise"] > costs(10, 100).a_pair["features"]
    assert costs(10, 20).a_pair["pairwise"] == costs(10, 20).a_pair["features"]
    many = costs(200, 30, screened=True)
    assert many.look > 0.0
    assert many.by_detector["pairwise"] < costs(200, 30).by_detector["pairwise"]
    assert sum(ten.shares.values()) > 1.0
    assert ten.shares["window"] == pytest.approx(1.0)
