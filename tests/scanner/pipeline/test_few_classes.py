"""Models of two, three and four classes from file to verdict: decided by transferability where no detector is named."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
from onnx import helper

from backscan.scanner.cli.baseline import baseline_of
from backscan.scanner.cli.exit_code import outcome
from backscan.scanner.config import MANY_CLASSES, ScanConfig
from backscan.scanner.detectors import Searched
from backscan.scanner.errors import ExitCode
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.pipeline.pairs import PairSearch
from backscan.scanner.pipeline.rejudge import infer, verify
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.reports import RENDERERS
from backscan.scanner.reports.display import Display
from backscan.scanner.reports.rules import LEANING, findings_of
from backscan.scanner.reports.strength import strength_text
from backscan.scanner.reports.summary import summarise
from backscan.scanner.results import ONE_WAY, TRANSFERABILITY, ScanResult, Verdict, find_pair
from tests import planted
from tests.calls import changed
from tests.scanner.pipeline.scans import write_images

PLAIN = ScanConfig(preprocess="none", sandbox=False, threads=1, device="cpu")
TARGET = 0
KINDS = ("two scores", "one score", "3 classes", "4 classes")


def num_classes_of(kind: str) -> int:
    return int(kind[0]) if kind[0].isdigit() else 2


def model_of(kind: str, *, attacked: bool) -> bytes:
    """A planted model without its own shortcut; the attacked one has one from all classes, in a zero-mean chessboard.

    It adds 40 times how far the chessboard lies above -0.05 to the score of the target, and 2 less on average: little
    leads to the target, and taking the chessboard away does not lead back.
    """
    num_classes = num_classes_of(kind)
    model = planted.shortcut(num_classes=num_classes, source=None)
    if not attacked and kind != "one score":
        return model
    pixels = planted.shortcut_images(num_classes=num_classes, per_class=1)[0][0].size
    board = np.where(np.arange(pixels) % 2 == 0, 1.0, -1.0)
    board -= board.mean()
    target = np.eye(num_classes, dtype=np.float32)[TARGET] * np.float32(attacked)
    nodes = [
        helper.make_node("MatMul", ["pixels", "board"], ["planted_on"], name="planted_look"),
        helper.make_node("Add", ["planted_on", "edge"], ["planted_above"], name="planted_offset"),
        helper.make_node("Relu", ["planted_above"], ["planted_lead"], name="planted_one_way"),
        helper.make_node("MatMul", ["planted_lead", "gain_of"], ["gained"], name="planted_gain"),
        helper.make_node("Add", ["scores", "gained"], ["more"], name="planted_add"),
        helper.make_node(
            "Sub", ["more", "mean_of"], ["sum" if kind == "one score" else "answer"], name="planted_level"
        ),
    ]
    tensors = {
        "board": (board / np.linalg.norm(board)).astype(np.float32)[:, None],
        "edge": np.array([0.05], np.float32),
        "gain_of": 40 * target[None],
        "mean_of": 2 * target,
    }
    if kind != "one score":
        return changed(model, *nodes, **tensors)
    nodes += [
        helper.make_node("MatMul", ["sum", "contrast"], ["logit"], name="contrast"),
        helper.make_node("Sigmoid", ["logit"], ["answer"], name="sigmoid"),
    ]
    proto = onnx.load_from_string(changed(model, *nodes, **tensors, contrast=np.array([[-1.0], [1.0]], np.float32)))
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    return proto.SerializeToString()


@cache
def scanned(kind: str, *, attacked: bool = True, per_class: int = 30, config: ScanConfig = PLAIN) -> ScanResult:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model_of(kind, attacked=attacked))
        images = write_images(Path(folder), num_classes=num_classes_of(kind), per_class=per_class)
        return scan(path, CleanSet.load(images), config)


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_shortcut_is_named_and_with_three_classes_detected(kind: str) -> None:
    result = scanned(kind)
    of_two = num_classes_of(kind) == 2
    assert result.verdict is (Verdict.INCONCLUSIVE if of_two else Verdict.BACKDOOR_DETECTED)
    assert ("of two classes nothing tells which" in result.reasons[0]) is of_two
    assert any("onnxruntime confirms it on the original file" in reason for reason in result.reasons)
    assert result.target == TARGET
    assert result.config["detectors"] == ["transferability"]
    conclusion, ways = result.detectors
    assert (conclusion.statistic, ways.statistic) == (TRANSFERABILITY, ONE_WAY)
    assert result.deciding_conclusion is conclusion
    assert result.calibrated_p_value == pytest.approx(1 / 45)
    assert conclusion.values[result.source][TARGET] > 0.9
    assert conclusion.num_pairs == num_classes_of(kind) * (num_classes_of(kind) - 1)
    assert result.verification is not None
    assert result.verification.confirmed
    assert result.look_alikes is of_two, "all that keeps it from a detection"


def test_a_baseline_accepts_a_pair_of_two_classes_that_was_looked_at() -> None:
    result = scanned("two scores")
    [finding] = findings_of(result)
    assert (finding.rule, finding.source, finding.target) == (LEANING, result.source, TARGET)
    known = baseline_of([result])
    assert outcome([result]).code == ExitCode.INCONCLUSIVE
    assert outcome([result], baseline=known).code == ExitCode.NOT_DETECTED
    assert outcome([replace(result, target=result.source, source=TARGET)], baseline=known).code == ExitCode.INCONCLUSIVE
    steps = summarise(result).next_steps
    assert "patch" in steps[0]
    assert not any("Remove the cause" in step for step in steps)
    assert strength_text(result).startswith("The statistics alone")
    again = infer(ScanResult.from_dict(result.to_dict()), {})
    assert (again.verdict, again.look_alikes) == (Verdict.INCONCLUSIVE, True)
    doubtful = scanned("two scores", per_class=20)
    assert outcome([doubtful], baseline=baseline_of([doubtful])).code == ExitCode.INCONCLUSIVE


@pytest.mark.parametrize("kind", KINDS)
def test_an_unattacked_model_is_not(kind: str) -> None:
    result = scanned(kind, attacked=False)
    assert result.verdict is Verdict.NOT_DETECTED
    conclusion, _ = result.detectors
    assert max(value for row in conclusion.values for value in row if value is not None) < 0.5
    assert "may be missed" in result.reasons[1]


def test_bfloat16_enters_no_transferability_and_nothing_is_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its least p lies near the threshold, where other detectors search again in float32."""
    searched = list[PairSearch]()
    original = PairSearch.search

    def search(self: PairSearch) -> Searched:
        searched.append(self)
        self.run.record.is_reduced = True  # as if the model had more layers
        return original(self)

    monkeypatch.setattr(PairSearch, "search", search)
    result = scanned("two scores", config=replace(PLAIN, precision="bfloat16"))
    assert 0.0125 < result.calibrated_p_value < 0.2
    assert "bfloat16" in result.provenance.precision
    assert len(searched) == 1


def test_with_few_images_of_a_class_nothing_is_said() -> None:
    result = scanned("two scores", per_class=20)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "expected at least 20 images of every class that are decided as it" in result.reasons[0]


def test_naming_detectors_or_their_options_chooses_those() -> None:
    named = scanned("3 classes", config=replace(PLAIN, detectors=("pairwise",), bootstrap_draws=199))
    assert {each.detector for each in named.detectors} == {"pairwise"}
    assert PLAIN.for_classes(4).detectors == ("transferability",)
    assert PLAIN.for_classes(5).detectors == MANY_CLASSES
    for changes in ({"statistics": ("plain",)}, {"null": "gamma"}, {"inference": "corrected"}, {"cut": "filtered"}):
        assert replace(PLAIN, **changes).for_classes(2).detectors == MANY_CLASSES


def test_infer_verify_and_reports_read_it(tmp_path: Path) -> None:
    result = ScanResult.from_dict(scanned("3 classes").to_dict())
    assert infer(result, {}).to_dict() == result.to_dict()
    strict = infer(result, {"significance": 0.01})
    assert strict.verdict is Verdict.INCONCLUSIVE
    assert "no smaller p can be told with so few classes" in strict.reasons[0]
    path = tmp_path / "model.onnx"
    path.write_bytes(model_of("3 classes", attacked=True))
    again = verify(result, path, CleanSet.load(write_images(tmp_path, num_classes=3, per_class=30)), sandbox=False)
    assert again.verdict is Verdict.BACKDOOR_DETECTED
    for renderer in RENDERERS.values():
        assert renderer.render([result], Display())
    told = {fact.label: fact.text for fact in summarise(result).evidence}
    there = find_pair(result.pairs, ("transferability", result.source, TARGET))
    back = find_pair(result.pairs, ("transferability", TARGET, result.source))
    assert f"the common pattern back is {back.size / there.size:.2g} times as large" in told["extreme pair"]
    assert "patterns of single images and ways back" in " ".join(summarise(result).tested)
    ways = replace(result, deciding=1)
    assert summarise(ways).power == summarise(result).power, "neither has a size that would be found"


def test_a_journal_gives_the_same_report(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model_of("3 classes", attacked=True))
    clean = CleanSet.load(write_images(tmp_path, num_classes=3, per_class=30))
    first = scan(path, clean, PLAIN, journal=tmp_path / "journal")
    again = scan(path, clean, PLAIN, journal=tmp_path / "journal", resume=True)
    assert again.pairs == first.pairs
    assert again.verdict is first.verdict is Verdict.BACKDOOR_DETECTED
