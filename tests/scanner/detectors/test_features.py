"""Patterns inside the model: least ones known on paper behind a convolution, whole scans, and models without a cut."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.optimize import minimize

from backscan.converters.errors import CutNameError
from backscan.converters.signature.signature import Normalisation
from backscan.scanner.config import ScanConfig
from backscan.scanner.detectors import features
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.pipeline import conclusion
from backscan.scanner.pipeline.rejudge import infer, verify
from backscan.scanner.process.child import ModelHost
from backscan.scanner.process.protocol import decode, encode
from backscan.scanner.reports import RENDERERS, render
from backscan.scanner.results import PairResult, PairStatus, ScanResult, Verdict, to_json
from tests import planted
from tests.scanner.pipeline.scans import QUICK, SOURCE, TARGET, scanned, write_images, write_model
from tests.scanner.process.messages import message

NUM_CLASSES, CHANNELS, SIDE = 4, 3, 4
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(NUM_CLASSES, CHANNELS, SIDE, SIDE)).astype(np.float32)
KERNEL = RNG.normal(size=(CHANNELS, 1, 3, 3)).astype(np.float32)
IMAGES = (0.5 + 0.05 * RNG.normal(size=(120, 1, SIDE + 2, SIDE + 2))).astype(np.float32)


def paper_features(images: np.ndarray) -> np.ndarray:
    """The convolution, [N, F, H', W'], in float64 and without its constant."""
    windows = sliding_window_view(images.astype(np.float64), (3, 3), axis=(2, 3))
    return np.einsum("fchw,ncijhw->nfij", KERNEL.astype(np.float64), windows)


# With this bias an even image falls to all classes alike.
BIAS = -np.einsum("kfij,fij->k", WEIGHT, paper_features(np.full_like(IMAGES[:1], 0.5))[0]).astype(np.float32)


def paper_decisions(images: np.ndarray, pattern: np.ndarray | float = 0.0) -> np.ndarray:
    return (np.einsum("kfij,nfij->nk", WEIGHT, paper_features(images) + pattern) + BIAS).argmax(axis=1)


def opened(data: bytes | None = None, *, offset: float = 0.0) -> ModelHost:
    """A host with the planted model open; the convolution's constant is taken back by the classes' bias."""
    constant = np.full(CHANNELS, offset, np.float32)
    bias = BIAS - offset * WEIGHT.sum(axis=(1, 2, 3))
    model = data or planted.linear_features(weight=WEIGHT, bias=bias, kernel=KERNEL, offset=constant)
    host = ModelHost()
    host.open(message(model))
    return host


def cut(host: ModelHost, tensor: str | None = None) -> dict:
    images = np.zeros((5, *host.runtime.signature.input_shape), np.float32)
    return host.cut({"tensor": tensor, "images": images})["answer"]


def by_class() -> dict[int, np.ndarray]:
    decisions = paper_decisions(IMAGES)
    return {label: IMAGES[decisions == label] for label in range(NUM_CLASSES)}


def search(host: ModelHost, **options: object) -> list[PairResult]:
    """Every pair, in the space of the cut."""
    config = ScanConfig(threads=1, detectors=("features",), **options)
    images = {str(label): array for label, array in by_class().items()}
    prepared = host.prepare({"detector": "features", "images_by_class": images, "config": encode(config)})
    step_size = prepared["answer"]["step_size"]
    pairs = [[s, t] for s in range(NUM_CLASSES) for t in range(NUM_CLASSES) if s != t]
    events = host.optimise({"detector": "features", "pairs": pairs, "step_size": step_size, "seconds": None})
    return [decode(PairResult, event) for event in events]


def least_size_for_all(images: np.ndarray, target: int) -> float:
    """Size of the least pattern on the features that sends every image to the target, a quadratic program."""
    others = [c for c in range(NUM_CLASSES) if c != target]
    weight = WEIGHT.reshape(NUM_CLASSES, -1).astype(np.float64)
    scores = paper_features(images).reshape(len(images), -1) @ weight.T + BIAS
    normals = weight[target] - weight[others]
    needed = (scores[:, others] - scores[:, [target]]).max(axis=0)
    gram = normals @ normals.T
    solved = minimize(
        lambda c: c @ gram @ c,
        np.linalg.solve(gram, np.maximum(needed, 0) + 1),
        jac=lambda c: 2 * gram @ c,
        constraints=[{"type": "ineq", "fun": lambda c: gram @ c - needed, "jac": lambda _: gram}],
        method="SLSQP",
    )
    assert solved.success
    return float(np.sqrt(solved.fun))


@pytest.mark.parametrize("objective", ["J", "ce"])
def test_found_patterns_are_about_as_small_as_patterns_can_be(objective):
    """Equation (10): behind the convolution the model is linear, so one least pattern is known; nothing clips it."""
    host, images = opened(), by_class()
    assert cut(host) == {"tensor": "filtered", "shape": [CHANNELS, SIDE, SIDE], "obstacle": ""}
    found = search(host, goal_rate=1.0, objective=objective)
    assert len(found) == NUM_CLASSES * (NUM_CLASSES - 1)
    ratios = []
    for pair in found:
        assert (pair.status, pair.detector, pair.pattern.shape) == (
            PairStatus.REACHED,
            "features",
            (CHANNELS, SIDE, SIDE),
        )
        assert np.linalg.norm(pair.pattern) == pytest.approx(pair.size, rel=1e-5)
        ratios.append(pair.size / least_size_for_all(images[pair.source], pair.target))
        assert (paper_decisions(images[pair.source], pair.pattern) == pair.target).all()
    assert min(ratios) >= 0.999
    assert max(ratios) <= 4 / 3


def test_the_file_decides_with_what_is_added_at_the_cut():
    host = opened()
    cut(host)
    pattern = np.random.default_rng(1).normal(size=(CHANNELS, SIDE, SIDE)).astype(np.float32)
    decided = host.decide({"images": IMAGES, "addition": pattern})["answer"]
    np.testing.assert_array_equal(decided, paper_decisions(IMAGES, pattern))
    assert (decided != paper_decisions(IMAGES)).any()
    np.testing.assert_array_equal(host.decide({"images": IMAGES})["answer"], paper_decisions(IMAGES))


def test_the_cut_follows_a_settled_normalisation():
    host = opened()
    cut(host)
    host.settle({"normalisation": asdict(Normalisation(mean=(0.1,), std=(0.8,)))})
    shifted = (IMAGES - np.float32(0.1)) / np.float32(0.8)
    nothing = np.zeros((CHANNELS, SIDE, SIDE), np.float32)
    np.testing.assert_array_equal(
        host.decide({"images": IMAGES, "addition": nothing})["answer"], paper_decisions(shifted)
    )
    with torch.no_grad():
        found = host._split.back(host._split.front(torch.from_numpy(IMAGES))).argmax(dim=1).numpy()
    np.testing.assert_array_equal(found, paper_decisions(shifted))


@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_what_is_large_does_not_depend_on_what_the_layer_adds(offset):
    host = opened(offset=offset)
    cut(host)
    search(host, max_steps=1)
    where = features.pattern_space(host._examination)
    used = np.concatenate(list(by_class().values()))
    expected = 2.0 * np.sqrt(np.square(paper_features(used).std(axis=0)).sum())
    assert where.largest_size("l2") == pytest.approx(expected, rel=1e-3)


def test_features_that_never_change_still_have_a_largest_size():
    constant = planted.linear_features(
        weight=WEIGHT, bias=BIAS, kernel=np.zeros_like(KERNEL), offset=np.ones(CHANNELS, np.float32)
    )
    host = opened(constant)
    cut(host)
    assert {pair.status for pair in search(host)} == {PairStatus.ALREADY_CONFUSED, PairStatus.REACHED}


def test_a_model_without_a_convolution_says_where_it_can_be_cut():
    answer = cut(opened(planted.linear_softmax(image_shape=(1, 6, 6))))
    assert (answer["tensor"], answer["shape"]) == ("", [])
    assert "expected a first convolution that all of the image passes through, found none" in answer["obstacle"]
    other = opened(planted.linear_softmax(image_shape=(1, 6, 6)))
    assert cut(other, "pixels") == {"tensor": "pixels", "shape": [36], "obstacle": ""}
    with pytest.raises(CutNameError, match=r"the model cannot be cut at 'nowhere'.*choose one of"):
        cut(other, "nowhere")


def test_a_cut_that_decides_otherwise_is_not_used(monkeypatch):
    """The parts are built anew, so their parity is measured anew."""
    host = opened()
    monkeypatch.setattr(type(host.runtime), "decisions", lambda _, images: np.arange(len(images)))
    assert "decides as the file on" in cut(host)["obstacle"]


BOTH = replace(QUICK, detectors=("pairwise", "features"))


def test_a_scan_does_without_the_detector_where_the_model_has_no_cut():
    alone, result = scanned(), scanned(config=BOTH)
    assert result.verdict is Verdict.BACKDOOR_DETECTED
    assert result.calibrated_p_value == alone.calibrated_p_value  # one test is not corrected for another
    assert result.pairs == alone.pairs
    [_, idle] = result.detectors
    assert (idle.detector, idle.num_pairs, idle.decides) == ("features", 0, False)
    assert any("patterns on features inside the model: expected a first conv" in text for text in result.not_tested)


def test_alone_without_a_cut_it_is_inconclusive():
    result = scanned(config=replace(QUICK, detectors=("features",)))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.pairs == ()


@pytest.fixture(scope="module")
def both() -> ScanResult:
    """Cut right behind the image, where features are pixels: the shortcut is there for both detectors."""
    return scanned(config=replace(BOTH, cut="pixels"))


def test_two_detectors_share_the_threshold(both):
    assert both.verdict is Verdict.BACKDOOR_DETECTED
    assert (both.source, both.target) == (SOURCE, TARGET)
    assert both.calibrated_p_value == 2 / 200
    assert [(each.detector, each.space, each.source, each.target) for each in both.detectors if each.part_of] == [
        ("pairwise", "image", SOURCE, TARGET),
        ("features", "pixels", SOURCE, TARGET),
    ]
    assert len(both.pairs) == 2 * len(scanned().pairs)
    for pair in both.pairs:  # nothing clips features, so that no pair needs more there
        if pair.detector == "features":
            [image] = [p for p in both.pairs if (p.source, p.target) == (pair.source, pair.target) and p is not pair]
            assert pair.size <= image.size * 1.05


def test_the_detection_in_features_is_replayed_on_the_file(tmp_path):
    found = scanned(config=replace(QUICK, detectors=("features",), cut="pixels"))
    assert found.verdict is Verdict.BACKDOOR_DETECTED
    replay = found.verification
    assert (replay.detector, replay.confirmed, replay.rate_original) == ("features", True, replay.rate_torch)
    assert found.patterns[0].space == "pixels"
    assert found.patterns[0].values.shape == (64,)
    assert all(example.before_png and not example.after_png for example in found.examples)
    again = verify(reread(found), write_model(tmp_path), CleanSet.load(write_images(tmp_path)), sandbox=False)
    assert again.to_dict() == reread(found).to_dict()
    other = write_model(tmp_path, "other.onnx", source=None)
    other = verify(reread(found), other, CleanSet.load(write_images(tmp_path)), sandbox=False)
    assert other.verdict is Verdict.INCONCLUSIVE


def reread(result: ScanResult) -> ScanResult:
    return ScanResult.from_dict(result.to_dict())


def test_other_statistics_need_no_model(both):
    again = infer(reread(both), {})
    assert again.to_dict() == reread(both).to_dict()


@pytest.mark.parametrize("name", RENDERERS)
def test_reports_show_both(both, name):
    text = render(both, name)
    assert text == render(reread(both), name)
    if name in ("html", "markdown", "terminal"):
        assert "features" in text
        assert "pixels" in text


def test_the_sandbox_lets_patterns_of_features_pass():
    config = replace(QUICK, detectors=("features",), cut="pixels")
    inside = scanned(config=replace(config, sandbox=True))
    assert inside.verdict is Verdict.BACKDOOR_DETECTED
    assert to_json([pair.to_dict() for pair in inside.pairs]) == to_json(
        [pair.to_dict() for pair in scanned(config=config).pairs]
    )


def test_a_pair_that_is_not_confirmed_makes_room_for_the_next(monkeypatch):
    """Both detectors find the pair, only the second replay confirms: that is the one reported."""
    real = conclusion.replay

    def doubted(*arguments: object, **options: object) -> object:
        found = real(*arguments, **options)
        return replace(found, confirmed=found.detector == "features")

    monkeypatch.setattr(conclusion, "replay", doubted)
    result = scanned.__wrapped__(config=replace(BOTH, cut="pixels"))
    assert result.verdict is Verdict.BACKDOOR_DETECTED
    assert (result.verification.detector, result.patterns[0].detector) == ("features", "features")
