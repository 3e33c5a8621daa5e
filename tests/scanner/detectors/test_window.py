"""Windows: a planted one is found at its place, an unattacked twin gives no alarm, other orders change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from backscan.converters import artifact_from_bytes, import_model, read_signature
from backscan.kernels.embedding import patch
from backscan.scanner.config import ScanConfig
from backscan.scanner.detectors import Examination, counting, window
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.inference.rates import infer_rates, logit_of_rate, told_apart
from backscan.scanner.inference.target_test import target_test
from backscan.scanner.pipeline.rejudge import infer, verify
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.reports import RENDERERS, render
from backscan.scanner.results import (
    EncodedArray,
    Inference,
    PairStatus,
    ScanResult,
    SupportRecord,
    TargetResult,
    Verdict,
)
from backscan.scanner.search.effort import of_window
from backscan.scanner.search.halving import Climb, find_window
from backscan.scanner.search.supports import Supports, window_grid, window_pixels
from backscan.scanner.store.reports import parse
from tests import planted

NUM_CLASSES, SHAPE, SIDE, CORNER, TARGET = 6, (3, 12, 12), 3, (6, 2), 4
CONFIG = ScanConfig(
    preprocess="none", detectors=("window",), bootstrap_draws=199, sandbox=False, threads=1, device="cpu"
)


def templates(order: Sequence[int] = range(NUM_CLASSES)) -> np.ndarray:
    """What each class looks like, +1 or -1."""
    return np.random.default_rng(5).choice([-1.0, 1.0], size=(NUM_CLASSES, *SHAPE))[list(order)].astype(np.float32)


def parameters(gain: float, order: Sequence[int] = range(NUM_CLASSES)) -> tuple[np.ndarray, np.ndarray]:
    """A linear classifier by templates, in which a white window at its place raises the target by a gain a pixel."""
    weight = 0.5 * templates(order)
    row, column = CORNER
    place = list(order).index(TARGET)
    weight[:, :, row : row + SIDE, column : column + SIDE] = 0.0
    bias = -0.5 * weight.sum(axis=(1, 2, 3))
    weight[place, :, row : row + SIDE, column : column + SIDE] = gain
    bias[place] -= gain * 27 * 0.5
    return weight, bias.astype(np.float32)


def clean_images(order: Sequence[int] = range(NUM_CLASSES), number: int = 75) -> tuple[np.ndarray, np.ndarray]:
    """Images of every class, some of them plain and some faint."""
    rng = np.random.default_rng(6)
    strength = rng.uniform(0.02, 0.15, (number, 1, 1, 1))
    noise = rng.normal(size=(number, *SHAPE))
    images = [np.clip(0.5 + strength * look + 0.05 * noise, 0, 1) for look in templates(order)]
    return np.concatenate(images).astype(np.float32), np.arange(NUM_CLASSES).repeat(number)


def examination(gain: float, order: Sequence[int] = range(NUM_CLASSES), **options: object) -> Examination:
    artifact = artifact_from_bytes("m.onnx", planted.linear_softmax(parameters=parameters(gain, order)))
    classifier = import_model(artifact, read_signature(artifact))
    images, labels = clean_images(order)
    by_class = {label: torch.from_numpy(images[labels == label][:60]) for label in range(NUM_CLASSES)}
    with torch.no_grad():
        decisions = {label: classifier.log_posterior(own).argmax(dim=1) for label, own in by_class.items()}
    return Examination(
        classifier=classifier,
        images_by_class=by_class,
        decisions_by_class=decisions,
        num_classes=NUM_CLASSES,
        config=replace(CONFIG, **options),
        stopped=lambda: False,
    )


def results(given: Examination) -> dict[int, TargetResult]:
    return {entry.target: entry for entry in window.search(given)}


def climb(given: Examination, target: int) -> Climb:
    found = window.Plan.of(given).climb(target)
    assert found is not None
    return found


GAIN = 12.0


def test_a_planted_window_is_found_at_its_place():
    given = examination(GAIN)
    found = find_window(climb(given, TARGET), SIDE)
    assert found.pixels[0].tolist() == window_pixels([CORNER], SIDE, SHAPE[2])[0].tolist()
    high = torch.cat(list(given.images_by_class.values())).amax(dim=(0, 2, 3))
    torch.testing.assert_close(found.content[0], high[:, None].expand(-1, SIDE * SIDE))


@pytest.mark.parametrize("side", [2, 3])
def test_the_estimate_of_time_counts_what_the_search_passes(side):
    climbing = climb(examination(GAIN), TARGET)
    find_window(climbing, side)
    told = of_window(*SHAPE[1:], side)
    # Places that are found twice, as those at an edge, are searched once.
    assert 0.8 * told.gradients <= climbing.work.gradients <= told.gradients
    assert 0.8 * told.forwards <= climbing.work.forwards <= told.forwards


def test_its_target_stands_out_by_images_that_the_search_did_not_see():
    found = results(examination(GAIN))
    assert sorted(found) == list(range(NUM_CLASSES))
    rates = {target: entry.rate for target, entry in found.items()}
    assert rates[TARGET] > 0.9 > 0.5 > max(rate for target, rate in rates.items() if target != TARGET)
    support = found[TARGET].support
    assert set(support.pixels) & set(window_pixels([CORNER], SIDE, SHAPE[2])[0].tolist())
    assert max(support.counts) <= 40
    assert support.rate_elsewhere < 0.5
    by_target, by_pair = window.infer(list(found.values()), CONFIG, NUM_CLASSES)
    assert (by_target.target, by_target.detected, by_target.decides) == (TARGET, True, True)
    assert (by_pair.target, by_pair.decides) == (TARGET, False)


def test_an_unattacked_twin_gives_no_alarm():
    conclusions = window.infer(list(results(examination(0.0)).values()), CONFIG, NUM_CLASSES)
    assert [entry.statistic for entry in conclusions] == ["target-rate", "pair-rate"]
    assert all(entry.calibrated_p_value > 0.05 and not entry.detected for entry in conclusions)


def test_classes_in_another_order_have_the_same_rates():
    order = (3, 5, 0, 4, 1, 2)
    here, there = results(examination(GAIN)), results(examination(GAIN, order))
    rates = [here[target].rate for target in order]
    moved = [there[place].rate for place in range(NUM_CLASSES)]
    assert np.argmax(moved) == order.index(TARGET)
    np.testing.assert_allclose(moved, rates, atol=0.1)


def test_contents_replace_what_they_cover_and_nothing_else():
    rng = np.random.default_rng(0)
    images = rng.random((3, 2, 5, 6), dtype=np.float32)
    pixels = window_pixels([(1, 2), (3, 4)], 2, 6)
    content = torch.from_numpy(rng.random((2, 2, 4), dtype=np.float32))
    filled = Supports(pixels, content).on(torch.from_numpy(images)).numpy()
    for place, (row, column) in enumerate([(1, 2), (3, 4)]):
        mask, pattern = np.zeros((5, 6), np.float32), np.zeros((2, 5, 6), np.float32)
        mask[row : row + 2, column : column + 2] = 1
        pattern[:, row : row + 2, column : column + 2] = content[place].reshape(2, 2, 2)
        np.testing.assert_array_equal(filled[place], patch(images, pattern, mask))


def test_the_gradient_of_content_is_that_of_autograd():
    images = torch.rand(3, 2, 5, 6, generator=torch.Generator().manual_seed(0))
    content = torch.rand(2, 2, 4, requires_grad=True)
    for opacity in (1.0, 0.2):
        supports = Supports(window_pixels([(1, 2), (3, 4)], 2, 6), content, opacity)
        filled = supports.on(images)
        (of_images,) = torch.autograd.grad((filled**3).sum(), filled, retain_graph=True)
        (expected,) = torch.autograd.grad((filled**3).sum(), content)
        torch.testing.assert_close(supports.gradient(of_images), expected)


def test_the_grid_reaches_every_edge():
    corners = window_grid(10, 7, 3, 4)
    assert corners == [(row, column) for row in (0, 4, 7) for column in (0, 4)]


@pytest.mark.parametrize(
    ("shape", "first", "last"),
    [((28, 28), 1, 7), ((8, 8), 1, 2), ((32, 64), 1, 8), ((224, 224), 1, 56), ((3, 3), 1, 1)],
)
def test_sides_go_from_a_pixel_to_a_quarter(shape, first, last):
    found = window.sides(*shape)
    assert (found[0], found[-1]) == (first, last)
    assert found == sorted(set(found))


def test_the_search_and_the_count_share_no_image():
    """At least 20 count where there are 40 images, else half; 20 are the fewest of a source."""
    assert [(counting.split(n), n - counting.split(n)) for n in (20, 39, 40, 41, 100)] == [
        (10, 10),
        (19, 20),
        (20, 20),
        (20, 21),
        (20, 80),
    ]
    images = np.arange(100)
    assert counting.counted(images).tolist() == list(range(20, 60))


def test_a_class_with_few_images_is_no_source_and_is_named():
    given = examination(GAIN)
    few = given.images_by_class | {1: given.images_by_class[1][:19]}
    found = list(results(replace(given, images_by_class=few)).values())
    assert all(1 not in entry.support.sources for entry in found)
    assert "source class 1 left out" in " ".join(window.infer(found, CONFIG, NUM_CLASSES)[0].remarks)


def test_the_side_is_that_of_the_median_target(monkeypatch):
    plan = window.Plan.of(examination(GAIN))
    for medians, expected in [
        ({1: 0.01, 2: 0.12, 3: 0.4}, 2),
        ({1: 0.5, 2: 0.6, 3: 0.7}, 1),
        ({1: 0.0, 2: 0.01, 3: 0.02}, 3),
        ({1: 0.04, 2: 0.5, 3: 0.6}, 1),
    ]:
        monkeypatch.setattr(window, "_median_rate", lambda _, side, known=medians: known[side])
        assert window.choose_side(plan) == expected
    monkeypatch.setattr(window, "_median_rate", lambda *_: None)
    assert window.choose_side(plan) is None


def support(target: int, hits: Sequence[int], count: int = 40, side: int = 3) -> TargetResult:
    sources = tuple(source for source in range(len(hits)) if source != target)
    own = tuple(hits[source] for source in sources)
    total = count * len(sources)
    return TargetResult(
        "window",
        target,
        PairStatus.REACHED,
        logit_of_rate(sum(own), total),
        sum(own) / total,
        9,
        SupportRecord(side, (0,), EncodedArray.encode(np.zeros((1, 1), np.float32)), sources, own, (count,) * len(own)),
    )


def judged(hits: np.ndarray) -> tuple[Inference, ...]:
    return infer_rates(
        [support(t, hits[:, t].tolist()) for t in range(len(hits))], CONFIG, len(hits), detector="window"
    )


def test_one_pair_is_found_by_the_pairs_and_one_target_by_the_targets():
    hits = np.random.default_rng(3).binomial(40, 0.05, (10, 10))
    assert not any(entry.detected for entry in judged(hits))
    one_pair = hits.copy()
    one_pair[4, 7] = 40
    by_target, by_pair = judged(one_pair)
    assert (by_pair.detected, by_pair.key) == (True, ("window", 4, 7))
    column = hits.copy()
    column[:, 2] = 38
    by_target, by_pair = judged(column)
    assert (by_target.detected, by_target.target) == (True, 2)
    permuted = np.random.default_rng(4).permutation(10)
    again = judged(column[np.ix_(permuted, permuted)])[0]
    assert permuted[again.target] == 2
    assert again.p_value == pytest.approx(by_target.p_value)


def test_large_rates_everywhere_are_told():
    told = judged(np.random.default_rng(3).binomial(40, 0.5, (10, 10)))[0].remarks
    assert any("stands out little" in remark for remark in told)


@cache
def scanned(gain: float) -> ScanResult:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = write_model(folder, gain)
        return scan(path, write_images(folder), CONFIG)


def write_model(folder, gain: float):
    from pathlib import Path

    path = Path(folder) / "model.onnx"
    path.write_bytes(planted.linear_softmax(parameters=parameters(gain)))
    return path


def write_images(folder) -> CleanSet:
    from pathlib import Path

    images, labels = clean_images()
    np.savez(Path(folder) / "images.npz", x=np.moveaxis(images, 1, -1), y=labels)
    return CleanSet.load(Path(folder) / "images.npz")


def test_a_scan_detects_it_and_the_file_confirms():
    found = scanned(GAIN)
    assert (found.verdict, found.target) == (Verdict.BACKDOOR_DETECTED, TARGET)
    assert found.verification.confirmed
    assert found.verification.rate_shuffled < found.verification.rate_held_out
    [pattern] = found.patterns
    assert pattern.mask.decode().sum() == found.targets[TARGET].support.side ** 2
    assert found.calibrated_p_value == found.deciding_conclusion.calibrated_p_value
    assert "window sends abnormally many images" in found.reasons[0]


def test_the_twin_is_not_detected():
    assert scanned(0.0).verdict is Verdict.NOT_DETECTED


def test_reports_keep_it_and_are_judged_again(tmp_path):
    found = scanned(GAIN)
    [again] = parse(render(found, "json"))
    assert (again.targets, again.patterns) == (found.targets, found.patterns)
    assert infer(again, {}).verdict is Verdict.BACKDOOR_DETECTED
    checked = verify(again, write_model(tmp_path, GAIN), write_images(tmp_path), sandbox=False)
    assert (checked.verdict, checked.verification) == (Verdict.BACKDOOR_DETECTED, found.verification)
    cleared = verify(again, write_model(tmp_path, 0.0), write_images(tmp_path), sandbox=False)
    assert cleared.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("name", RENDERERS)
@pytest.mark.parametrize("gain", [0.0, GAIN])
def test_every_report_renders_it(name, gain):
    assert render(scanned(gain), name)


@pytest.mark.parametrize(
    ("hits", "counts"),
    [
        ([0] * 10, [360, *[359] * 9]),  # one image fewer was asked
        ([1, *[0] * 9], [360] * 10),  # one image follows
        ([360, *[359] * 9], [360] * 10),  # all follow but one
        ([335, *[360] * 9], [335, *[360] * 9]),  # all follow, and fewer were asked
        ([40] * 10, [360] * 10),
    ],
)
def test_one_image_more_or_less_sets_no_target_apart(hits, counts):
    assert target_test(told_apart(np.array(hits), np.array(counts))).p_value > 0.1


def test_rates_that_a_few_images_tell_apart_are_as_they_are():
    hits, counts = np.random.default_rng(3).binomial(360, 0.1, 10) + np.arange(10), np.full(10, 360)
    given = [logit_of_rate(int(h), 360) for h in hits]
    assert told_apart(hits, counts).tolist() == given
    assert target_test(told_apart(np.array([360, *[0] * 9]), counts)).p_value < 1e-3, "a planted one stands out"
