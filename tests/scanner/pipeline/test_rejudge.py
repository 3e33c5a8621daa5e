"""A report taken up again: the same conclusion from the same pairs, and a replay that believes no other model."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backscan.scanner.errors import CleanSetError, OptionError, ReportError, UserError
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.inference.verdict import Judgement, with_findings
from backscan.scanner.pipeline.rejudge import infer, verify
from backscan.scanner.results import ScanResult, Verdict
from tests.scanner.pipeline.scans import QUICK, SOURCE, TARGET, UNATTACKED, scanned, write_images, write_model
from tests.scanner.reports import examples


def reread(result: ScanResult) -> ScanResult:
    """The result as a later command gets it."""
    return ScanResult.from_dict(json.loads(json.dumps(result.to_dict())))


REPORTS = {
    "detected": lambda: scanned(),
    "not detected": lambda: scanned(model=UNATTACKED),
    "corrected": lambda: scanned(config=replace(QUICK, inference="corrected", order=2)),
    "published": lambda: scanned(model=UNATTACKED, config=replace(QUICK, published_p=True)),
    "too few images": lambda: scanned(images="few of class 4"),
    "confused": lambda: scanned(images="class 0 under label 2"),
    "unreached": lambda: scanned(config=replace(QUICK, max_size=0.3)),
    "some targets": lambda: scanned(config=replace(QUICK, targets=(TARGET, 0))),
    "two classes": lambda: scanned(model=(("num_classes", 2), ("target", 0))),
    "preprocessing disputed": lambda: scanned(config=replace(QUICK, preprocess="auto")),
}


@pytest.mark.parametrize("name", REPORTS)
def test_the_same_statistics_give_the_same_report(name):
    result = reread(REPORTS[name]())
    assert infer(result, {}).to_dict() == result.to_dict()


def test_a_report_from_before_witnesses_were_combined_is_judged_as_it_was():
    each = scanned(config=replace(QUICK, combination="each", statistics=("plain", "target-contrast")))
    document = json.loads(json.dumps(each.to_dict()))
    del document["config"]["combination"]
    again = infer(ScanResult.from_dict(document), {})
    assert (again.verdict, again.reasons, again.detectors) == (each.verdict, each.reasons, each.detectors)
    assert again.config["combination"] == "each"
    assert infer(ScanResult.from_dict(document), {"combination": "together"}).config["combination"] == "together"


def test_other_statistics_give_what_a_scan_with_them_would_have_given():
    for changes in (
        {"null": "exponential"},
        {"statistics": ("source-normalised",)},
        {"inference": "corrected", "order": 2},
    ):
        again = infer(reread(scanned()), changes)
        expected = scanned(config=replace(QUICK, **changes))
        assert (again.verdict, again.reasons) == (expected.verdict, expected.reasons)
        assert again.detectors == expected.detectors
        assert again.pairs == expected.pairs
        assert again.config == json.loads(json.dumps(expected.config))


def test_the_threshold_can_be_moved():
    result = reread(scanned(model=UNATTACKED, config=replace(QUICK, inference="unconfused")))
    assert result.verdict is Verdict.NOT_DETECTED
    loose = infer(result, {"significance": 0.5})
    assert (loose.verdict, loose.significance) == (Verdict.BACKDOOR_DETECTED, 0.5), "its pattern works as all do here"
    assert infer(loose, {"significance": 0.05}).to_dict() == result.to_dict()


def test_another_pair_has_no_replay_and_no_pattern():
    """Made to need the least, pair 0 to 2 is extreme, but its pattern is in no report."""
    result = reread(scanned())
    tiny = [replace(p, size=1e-3) if (p.source, p.target) == (0, 2) else p for p in result.pairs]
    again = infer(replace(result, pairs=tuple(tiny)), {})
    assert (again.source, again.target) == (0, 2)
    assert again.verdict is Verdict.INCONCLUSIVE
    assert "was not replayed on the original file" in again.reasons[0]
    assert (again.patterns, again.examples, again.verification, again.controls) == ((), (), None, None)


@pytest.mark.parametrize("model", [(), UNATTACKED], ids=["attacked", "unattacked"])
def test_a_scan_that_ended_without_a_verdict_has_none_afterwards(tmp_path, images, model):
    """As where the model's process was ended in the replay: all pairs are there, and nothing was confirmed."""
    why = ("the model's process ended: mistrust the model if it happens again",)
    result = replace(scanned(model=model), verdict=Verdict.NO_VERDICT, reasons=why, verification=None)
    without_conclusions = replace(result, detectors=(), deciding=None, patterns=())
    for report in (result, without_conclusions):
        again = infer(reread(report), {"significance": 0.2})
        assert (again.verdict, again.reasons) == (Verdict.NO_VERDICT, why)
    again = replayed(result, write_model(tmp_path, **dict(model)), images)
    assert (again.verdict, again.reasons) == (Verdict.NO_VERDICT, why)


def test_a_pattern_of_a_detector_that_is_not_known_is_refused(tmp_path, images):
    result = scanned()
    strange = replace(result.patterns[0], detector="zzz")
    for pairs in (result.pairs, tuple(replace(pair, detector="zzz") for pair in result.pairs)):
        with pytest.raises(ReportError, match="among the report's pairs, found none"):
            replayed(replace(result, patterns=(strange,), pairs=pairs), write_model(tmp_path), images)


def with_a_switch(result: ScanResult) -> ScanResult:
    """The report of a model in whose graph a switch was shown."""
    findings = examples.with_findings().findings
    judged = with_findings(Judgement(result.verdict, result.reasons), findings)
    source, target = judged.classes(result.deciding_conclusion)
    told = {"verdict": judged.verdict, "reasons": judged.reasons, "source": source, "target": target}
    return replace(result, findings=findings, **told)


@pytest.mark.parametrize("model", [(), UNATTACKED], ids=["detected too", "not detected by pairs"])
def test_a_demonstrated_switch_stays_a_detection(tmp_path, images, model):
    result = with_a_switch(scanned(model=model))
    assert infer(reread(result), {}).to_dict() == reread(result).to_dict()
    same = write_model(tmp_path, **dict(model))
    assert replayed(result, same, images).reasons == result.reasons


def test_a_switch_is_not_claimed_of_another_file(tmp_path, images):
    result = scanned(model=UNATTACKED)
    again = replayed(with_a_switch(result), write_model(tmp_path, source=None, opset=18), images)
    assert again.verdict is Verdict.INCONCLUSIVE
    assert (again.source, again.target) == (result.source, result.target)


def test_the_report_of_one_file_clears_no_other(tmp_path, images):
    """An unattacked model's report, replayed on an attacked one."""
    again = replayed(scanned(model=UNATTACKED), write_model(tmp_path), images)
    assert again.verdict is Verdict.INCONCLUSIVE
    assert "this file was not searched" in again.reasons[0]
    with pytest.raises(ReportError, match="pass that of the scan"):
        infer(reread(again), {"significance": 0.001})
    with pytest.raises(ReportError, match="pass that of the scan"):
        replayed(again, write_model(tmp_path), images)


def test_a_model_without_the_output_of_the_report_is_not_that_model(tmp_path, images):
    found = scanned()
    asked = replace(found, config={**found.config, "output_name": "other"})
    with pytest.raises(ReportError, match=r"expected a model with output 'other'.*pass the model of the report"):
        replayed(asked, write_model(tmp_path), images)


def test_a_doubt_that_statistics_cannot_settle_stays():
    """The scan was repeated under another preprocessing, whose pairs are not in the report."""
    disputed = reread(REPORTS["preprocessing disputed"]())
    for changes in ({"significance": 0.2}, {"published_p": True}, {"null": "exponential"}):
        again = infer(disputed, changes)
        assert again.verdict is Verdict.INCONCLUSIVE
        assert again.reasons == disputed.reasons


def test_an_unfinished_search_is_not_judged():
    result = reread(scanned())
    partial = replace(result, pairs=result.pairs[:-1], verdict=Verdict.INCONCLUSIVE, detectors=())
    with pytest.raises(
        ReportError, match="expected all 20 class pairs of the search, found 19 of them: let the scan finish first"
    ):
        infer(partial, {})


def test_a_report_without_pairs_is_not_judged():
    for result in (scanned(images="mislabelled"), replace(scanned(), pairs=())):
        with pytest.raises(ReportError, match="expected a report with class pairs, found one without"):
            infer(reread(result), {})


@pytest.mark.parametrize("changes", [{"null": "normal"}, {"order": 0}, {"bootstrap_draws": 1}], ids=str)
def test_impossible_options_are_refused(changes):
    with pytest.raises(OptionError):
        infer(reread(scanned()), changes)


def places(document: Any, path: tuple = ()) -> Iterator[tuple]:
    """Every place in a JSON document that holds no list or object."""
    entries = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in entries:
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


def damaged(document: dict, place: tuple, value: object) -> dict:
    copy = json.loads(json.dumps(document))
    part = copy
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    return copy


@pytest.mark.parametrize("value", [None, -1, 0, 7, 1e308, float("nan"), float("inf"), "text", [], {}], ids=str)
def test_a_damaged_report_is_the_users_mistake_or_harmless(value):
    """Whatever stands at any place, nothing fails in another way."""
    document = json.loads(json.dumps(scanned().to_dict()))
    document["patterns"][0]["values"]["data"] = document["patterns"][0]["values"]["data"][:40]
    everywhere = list(places(document))
    for index in np.random.default_rng(0).permutation(len(everywhere))[:60]:
        with contextlib.suppress(UserError):
            infer(ScanResult.from_dict(damaged(document, everywhere[index], value)), {"bootstrap_draws": 19})


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path)


def replayed(result: ScanResult, model: Path, images: Path) -> ScanResult:
    return verify(reread(result), model, CleanSet.load(images), sandbox=False)


def test_the_same_model_confirms(tmp_path, images):
    again = replayed(scanned(), write_model(tmp_path), images)
    assert again.verdict is Verdict.BACKDOOR_DETECTED
    assert again.to_dict() == reread(scanned()).to_dict()


def test_a_renamed_copy_confirms(tmp_path, images):
    again = replayed(scanned(), write_model(tmp_path, "other.onnx"), images)
    assert again.verdict is Verdict.BACKDOOR_DETECTED
    assert again.warnings == scanned().warnings


@pytest.mark.parametrize("other", [{"source": None}, {"source": 2, "target": 0}, {"source": 3, "target": 1}], ids=str)
def test_another_model_does_not_confirm(tmp_path, images, other):
    again = replayed(scanned(), write_model(tmp_path, **other), images)
    assert again.verdict is Verdict.INCONCLUSIVE
    assert not again.verification.confirmed
    assert "the original file does not confirm it" in again.reasons[0]
    [warning] = (text for text in again.warnings if text.startswith("this is not the file of the report"))
    assert scanned().model.sha256[:16] in warning
    assert again.model.sha256 != scanned().model.sha256


def test_a_model_with_the_backdoor_trained_again_confirms_with_a_note(tmp_path, images):
    again = replayed(scanned(), write_model(tmp_path, opset=18), images)
    assert again.verdict is Verdict.BACKDOOR_DETECTED
    assert "not the file of the report" in again.warnings[-1]


def test_other_images_of_the_same_classes_confirm(tmp_path):
    """Their rate need not be that of the search: only the held-out conditions can hold."""
    others = write_images(tmp_path, "others.npz", per_class=60, seed=9)
    again = replayed(scanned(), write_model(tmp_path), others)
    assert again.verification.num_images > 40
    num_replayed = again.verification.num_images + again.verification.num_held_out
    assert f"from others.npz, with {num_replayed} images of class {SOURCE}" in again.warnings[-1]
    assert again.verification.confirmed
    assert again.verdict is Verdict.BACKDOOR_DETECTED


def test_a_replay_detects_nothing_that_the_statistics_do_not(tmp_path, images):
    again = replayed(scanned(model=UNATTACKED), write_model(tmp_path, source=None), images)
    assert again.verdict is Verdict.NOT_DETECTED


def test_a_replay_settles_no_other_doubt(tmp_path, images):
    disputed = REPORTS["preprocessing disputed"]()
    again = replayed(disputed, write_model(tmp_path), images)
    assert again.verification.confirmed
    assert (again.verdict, again.reasons) == (Verdict.INCONCLUSIVE, disputed.reasons)


def test_a_replay_mends_a_missing_one(tmp_path, images):
    lacking = replace(scanned(), verification=None, verdict=Verdict.INCONCLUSIVE)
    assert replayed(lacking, write_model(tmp_path), images).verdict is Verdict.BACKDOOR_DETECTED


def test_a_report_without_a_pattern_cannot_be_replayed(tmp_path, images):
    for result in (scanned(images="mislabelled"), replace(scanned(), patterns=())):
        with pytest.raises(ReportError, match="expected a report with a recovered pattern, found one without"):
            replayed(result, write_model(tmp_path), images)


@pytest.mark.parametrize("num_classes", [3, 9])
def test_a_model_of_another_shape_is_refused(tmp_path, num_classes):
    others = write_images(tmp_path, num_classes=num_classes)
    with pytest.raises(ReportError, match=r"expected a model of images \[1, 8, 8\], as the report's pattern is, found"):
        replayed(scanned(), write_model(tmp_path, num_classes=num_classes, target=0), others)


def test_labels_that_the_model_lacks_are_refused(tmp_path):
    with pytest.raises(CleanSetError, match="expected class numbers below 5, found 7"):
        replayed(scanned(), write_model(tmp_path), write_images(tmp_path, relabel={4: 7}))


def test_too_few_images_of_the_source_are_named(tmp_path):
    few = write_images(tmp_path, keep={SOURCE: 4})
    with pytest.raises(UserError, match=f"images of class {SOURCE}"):
        replayed(scanned(), write_model(tmp_path), few)
