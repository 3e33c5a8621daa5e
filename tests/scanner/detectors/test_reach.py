"""Many classes: a planted target stands out of all, with images of a few classes, and its window is confirmed."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from backscan.converters import artifact_from_bytes, import_model, read_signature
from backscan.converters.cuts.last_layer import last_layer
from backscan.converters.torch_import.classifier import TorchClassifier
from backscan.scanner.config import MANY_CLASSES, SO_MANY_CLASSES, ScanConfig
from backscan.scanner.detectors import Examination, reach
from backscan.scanner.detectors import window as window_detector
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.inference.reach import NUM_CONTROLS, infer_reach, stand_out
from backscan.scanner.pipeline.rejudge import infer
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.reports import RENDERERS, render
from backscan.scanner.results import EncodedArray, PairStatus, ScanResult, SupportRecord, TargetResult, Verdict
from backscan.scanner.search.reach import margins, nearness
from tests import planted

NUM_CLASSES, SHAPE, SIDE, CORNER, TARGET = 80, (3, 12, 12), 2, (4, 8), 33
WITH_IMAGES = 8
GAIN = 9.0
CONFIG = ScanConfig(preprocess="none", detectors=("reach",), sandbox=False, threads=1, device="cpu")


def parameters(gain: float) -> tuple[np.ndarray, np.ndarray]:
    """A linear classifier by templates, in which white in a window raises the target."""
    weight = np.random.default_rng(5).choice([-0.5, 0.5], size=(NUM_CLASSES, *SHAPE)).astype(np.float32)
    row, column = CORNER
    bias = -0.5 * weight.sum(axis=(1, 2, 3))
    weight[TARGET, :, row : row + SIDE, column : column + SIDE] += gain
    bias[TARGET] -= gain * 12 * 0.5
    return weight, bias.astype(np.float32)


def clean_images() -> tuple[np.ndarray, np.ndarray]:
    """Images of the first classes."""
    rng = np.random.default_rng(6)
    looks = np.sign(parameters(0.0)[0][:WITH_IMAGES])
    images = [np.clip(0.5 + 0.08 * look + 0.05 * rng.normal(size=(25, *SHAPE)), 0, 1) for look in looks]
    return np.concatenate(images).astype(np.float32), np.arange(WITH_IMAGES).repeat(25)


def examination(gain: float, **options: object) -> Examination:
    artifact = artifact_from_bytes("m.onnx", planted.linear_softmax(parameters=parameters(gain)))
    classifier = import_model(artifact, read_signature(artifact))
    images, labels = clean_images()
    by_class = {label: torch.from_numpy(images[labels == label]) for label in range(WITH_IMAGES)}
    with torch.no_grad():
        decisions = {label: classifier.log_posterior(own).argmax(dim=1) for label, own in by_class.items()}
    return Examination(classifier, by_class, decisions, NUM_CLASSES, replace(CONFIG, **options), stopped=lambda: False)


def test_a_planted_target_stands_out_and_its_window_beyond_those_drawn():
    found = list(reach.search(examination(GAIN)))
    assert [entry.target for entry in found] == list(range(NUM_CLASSES))
    assert max(found, key=lambda entry: entry.value).target == TARGET
    searched = {entry.target for entry in found if entry.support is not None}
    assert TARGET in searched
    assert len(searched) >= NUM_CONTROLS + 1
    [conclusion] = reach.infer(found, CONFIG, NUM_CLASSES)
    assert (conclusion.detected, conclusion.target) == (True, TARGET)
    assert conclusion.source in range(WITH_IMAGES)
    assert f"to class {TARGET}, and at most" in conclusion.remarks[0]


def test_of_an_unattacked_one_nothing_stands_out_and_no_window_is_climbed():
    found = list(reach.search(examination(0.0)))
    [conclusion] = reach.infer(found, CONFIG, NUM_CLASSES)
    assert conclusion.p_value > 0.2
    assert all(entry.support is None for entry in found)


@pytest.mark.parametrize(("works_from", "side"), [(99, 3), (3, 2), (2, 1), (1, 1)])
def test_windows_are_as_large_as_they_can_be_without_working_towards_the_drawn_targets(works_from, side, monkeypatch):
    """What stands out has no part in the choice, and is then made as small as still works."""
    climbed = []

    def window(_look: object, target: int, side: int) -> SupportRecord:
        climbed.append((target, side))
        works = side >= (least if target in worth else works_from)
        nothing = EncodedArray.encode(np.zeros((3, 0), np.float32))
        return SupportRecord(side, (), nothing, sources=(0,), hits=(9 if works else 0,), counts=(10,))

    look, least = reach._Look.at(examination(GAIN)), 2
    worth, drawn = [TARGET], list(range(NUM_CONTROLS))
    monkeypatch.setattr(reach._Look, "window", window)
    found = look.windows(worth, drawn)
    assert look.sides == [3, 2, 1]
    assert found.keys() == {*worth, *drawn}
    assert {found[target].side for target in drawn} == {side}
    assert found[TARGET].side == min(least, side)
    assert climbed.index((TARGET, side)) == min(place for place, each in enumerate(climbed) if each[0] == TARGET)
    towards_drawn = [each for each in climbed if each[0] != TARGET]
    assert len(towards_drawn) == len(set(towards_drawn)) <= NUM_CONTROLS + window_detector.PILOTS * (3 - side)


def test_wanted_targets_alone_are_compared():
    found = list(reach.search(examination(GAIN, targets=tuple(range(20, 40)))))
    assert [entry.target for entry in found] == list(range(20, 40))
    assert infer_reach(found, CONFIG, NUM_CLASSES, detector="reach")[0].target == TARGET


def test_a_window_that_works_as_well_towards_others_is_no_sign():
    values = np.random.default_rng(0).normal(size=NUM_CLASSES)
    values[TARGET] = 30.0

    def entry(target: int, rate: float) -> TargetResult:
        return TargetResult("reach", target, PairStatus.REACHED, float(values[target]), rate, 5)

    alone = [entry(target, 0.9 if target == TARGET else 0.1) for target in range(NUM_CLASSES)]
    assert infer_reach(alone, CONFIG, NUM_CLASSES, detector="reach")[0].p_value < 0.01
    nowhere = [entry(target, 0.0) for target in range(NUM_CLASSES)]
    assert infer_reach(nowhere, CONFIG, NUM_CLASSES, detector="reach")[0].p_value < 0.01
    [common] = infer_reach([entry(t, 0.9) for t in range(NUM_CLASSES)], CONFIG, NUM_CLASSES, detector="reach")
    assert (common.p_value, common.detected) == (1.0, False)


def test_few_targets_say_nothing():
    assert stand_out([[1.0] * 9, [None] * 9], 0) is None


def test_nearness_of_a_linear_layer_is_that_on_paper():
    imported = examination(0.0).classifier
    torch.manual_seed(0)  # no image is decided as class 50
    linear = torch.nn.Linear(int(np.prod(SHAPE)), NUM_CLASSES)
    classifier = TorchClassifier(
        torch.nn.Sequential(torch.nn.Flatten(), linear), imported.signature, imported.normalisation, head="logits"
    )
    images = torch.from_numpy(clean_images()[0])
    layer = last_layer(classifier, images[:2])
    features = layer.features(classifier, torch.split(images, 40), threads=2)
    scores = classifier.logits(images).detach().double()
    assert torch.allclose((features @ layer.weight.T + layer.bias).double(), scores, atol=1e-5)
    best, decided = scores.max(dim=1)
    apart = (layer.weight[decided] - layer.weight[50]).double().norm(dim=1)
    expected = -((best - scores[:, 50]) / apart).median().log()
    assert float(nearness(layer, features)[50]) == pytest.approx(float(expected), rel=1e-4)
    same = last_layer(imported, images[:2])  # by another operator than a linear layer of torch
    assert torch.allclose(same.weight.reshape(NUM_CLASSES, *SHAPE), torch.from_numpy(parameters(0.0)[0]), atol=1e-4)


def test_a_margin_is_the_lead_over_the_best_other_class():
    found = margins(torch.tensor([[3.0, 1.0, 2.0]]))
    assert found.tolist() == [[1.0, -2.0, -1.0]]


@cache
def scanned(gain: float, limit: float | None = None) -> ScanResult:
    images, labels = clean_images()
    with TemporaryDirectory() as folder:
        model, archive = Path(folder) / "model.onnx", Path(folder) / "images.npz"
        model.write_bytes(planted.linear_softmax(parameters=parameters(gain)))
        np.savez(archive, x=np.moveaxis(images, 1, -1), y=labels)
        return scan(model, CleanSet.load(archive), replace(CONFIG, time_limit=limit))


def test_a_scan_detects_it_and_the_file_confirms():
    found = scanned(GAIN)
    assert (found.verdict, found.target) == (Verdict.BACKDOOR_DETECTED, TARGET)
    assert found.verification.confirmed
    assert f"class {TARGET} is reached abnormally far beyond all other targets" in found.reasons[0]
    told = " ".join(found.not_tested)
    assert "attacks from 72 classes (8 to 79): too few images of them; all 80 are tested as targets, from the 8" in told
    assert "each is tested as a target of all others together" in told
    again = ScanResult.from_dict(found.to_dict())
    assert infer(again, {}).to_dict() == again.to_dict()
    for name in RENDERERS:
        assert render(found, name)


def test_a_window_says_nothing_of_time():
    support = scanned(GAIN).targets[TARGET].support
    assert isinstance(support, SupportRecord)
    assert sum(support.counts) <= 100


@pytest.mark.parametrize(
    ("num_classes", "num_values", "options", "detectors"),
    [
        (71, 10**9, {}, MANY_CLASSES),
        (72, 10**4, {}, SO_MANY_CLASSES),
        (100, 3072, {}, MANY_CLASSES),
        (1000, 3 * 224 * 224, {}, SO_MANY_CLASSES),
        (1000, 3 * 224 * 224, {"screen": "on"}, MANY_CLASSES),
        (1000, 3 * 224 * 224, {"targets": (3,)}, MANY_CLASSES),
        (1000, 3 * 224 * 224, {"statistics": ("plain",)}, MANY_CLASSES),
        (1000, 3 * 224 * 224, {"detectors": ("pairwise",)}, ("pairwise",)),
    ],
)
def test_it_searches_where_looks_at_all_pairs_take_too_long(num_classes, num_values, options, detectors):
    assert ScanConfig(**options).for_classes(num_classes, num_values).detectors == detectors


def test_an_ended_look_says_so():
    started = time.monotonic()
    given = replace(examination(GAIN), stopped=lambda: time.monotonic() > started + 0.0)
    found = list(reach.search(given))
    assert all(entry.value is None and entry.support is None for entry in found)
