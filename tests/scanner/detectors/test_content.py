"""Content of other forms than windows: a planted one is found at its place, an unattacked twin gives no alarm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from backscan.converters import artifact_from_bytes, import_model, read_signature
from backscan.kernels.embedding import Images, patch
from backscan.scanner.config import ScanConfig
from backscan.scanner.detectors import Examination, blend, mask, scattered, window
from backscan.scanner.detectors.mask_search import FoundMask
from backscan.scanner.errors import NoVerdictError, ReportError
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.inference.content import words_of
from backscan.scanner.inference.mask_sizes import infer_mask_sizes
from backscan.scanner.inference.target_test import target_test
from backscan.scanner.pipeline import targets
from backscan.scanner.pipeline.estimate import Costs, Sizes, seconds_of
from backscan.scanner.pipeline.rejudge import infer, verify
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.process.checks import checked_target
from backscan.scanner.process.protocol import Speed
from backscan.scanner.reports import render
from backscan.scanner.results import (
    TARGET_MASK,
    EncodedArray,
    PairStatus,
    ScanResult,
    SupportRecord,
    TargetResult,
    Verdict,
)
from backscan.scanner.search import effort
from backscan.scanner.search.effort import Passes, of_blend, of_mask, of_scattered, pixels_added
from backscan.scanner.search.halving import Climb
from backscan.scanner.search.scattered import find_scattered, first_order_gains
from backscan.scanner.search.supports import Supports
from backscan.scanner.store.reports import parse
from tests import planted

NUM_CLASSES, SHAPE, TARGET = 8, (1, 10, 10), 4
NUM_PIXELS = SHAPE[1] * SHAPE[2]
PIXELS = (5, 38, 61, 97)
ORDER = tuple(range(NUM_CLASSES))


@dataclass(frozen=True, slots=True)
class Case:
    """One form and the model in which it is planted."""

    form: window.Form
    """What is searched."""
    gain: float
    """By how much the trigger raises its target, a pixel."""
    passes: Passes
    """What the search for one target is told to take."""
    size: int
    """Its size in the search for the planted one."""

    @property
    def trigger(self) -> Images:
        """Where the trigger is bright, +1, and dark, -1: [H * W]."""
        if self.form is blend.BLEND:
            return np.random.default_rng(8).choice([-1.0, 1.0], size=NUM_PIXELS).astype(np.float32)
        trigger = np.zeros(NUM_PIXELS, np.float32)
        trigger[list(PIXELS)] = [1, 1, -1, 1]
        return trigger


CASES = {
    "scattered": Case(scattered.SCATTERED, 12.0, of_scattered(*SHAPE[1:], 4), 4),
    "blend": Case(blend.BLEND, 6.0, of_blend(), 4),
}
each_form = pytest.mark.parametrize("name", CASES)
each_content = pytest.mark.parametrize("name", [*CASES, "mask"])


def templates(order: Sequence[int] = ORDER) -> Images:
    """What each class looks like, +1 or -1."""
    return np.random.default_rng(5).choice([-1.0, 1.0], size=(NUM_CLASSES, *SHAPE))[list(order)].astype(np.float32)


def parameters(trigger: Images, gain: float, order: Sequence[int] = ORDER) -> tuple[Images, Images]:
    """A linear classifier by templates, in which a trigger raises the target by a gain a pixel."""
    weight = 0.5 * templates(order).reshape(NUM_CLASSES, -1)
    weight[:, trigger != 0.0] *= 0.0 if (trigger == 0.0).any() else 1.0
    weight[list(order).index(TARGET)] += gain * trigger
    bias = -0.5 * weight.sum(axis=1)
    return weight.reshape(NUM_CLASSES, *SHAPE).astype(np.float32), bias.astype(np.float32)


def clean_images(order: Sequence[int] = ORDER, number: int = 50) -> tuple[Images, np.ndarray]:
    """Images of every class, some of them plain and some faint."""
    rng = np.random.default_rng(6)
    strength = rng.uniform(0.02, 0.15, (number, 1, 1, 1))
    noise = rng.normal(size=(number, *SHAPE))
    images = [np.clip(0.5 + strength * look + 0.05 * noise, 0, 1) for look in templates(order)]
    return np.concatenate(images).astype(np.float32), np.arange(NUM_CLASSES).repeat(number)


def model(name: str, *, attacked: bool, order: Sequence[int] = ORDER) -> bytes:
    case = CASES.get(name, CASES["scattered"])
    return planted.linear_softmax(parameters=parameters(case.trigger, case.gain * attacked, order))


def config(name: str) -> ScanConfig:
    return ScanConfig(preprocess="none", detectors=(name,), bootstrap_draws=199, sandbox=False, threads=1, device="cpu")


def examination(name: str, *, attacked: bool = True, order: Sequence[int] = ORDER) -> Examination:
    artifact = artifact_from_bytes("m.onnx", model(name, attacked=attacked, order=order))
    classifier = import_model(artifact, read_signature(artifact))
    images, labels = clean_images(order)
    by_class = {label: torch.from_numpy(images[labels == label][:40]) for label in range(NUM_CLASSES)}
    with torch.no_grad():
        decisions = {label: classifier.log_posterior(own).argmax(dim=1) for label, own in by_class.items()}
    return Examination(classifier, by_class, decisions, NUM_CLASSES, config(name), lambda: False)


def climb(given: Examination, name: str, target: int = TARGET) -> Climb:
    found = window.Plan.of(given, CASES[name].form).climb(target)
    assert found is not None
    return found


@each_form
def test_the_estimate_of_time_counts_what_the_search_passes(name: str) -> None:
    case, given = CASES[name], examination(name)
    climbing = climb(given, name)
    found, steps = case.form.find(climbing, case.size)
    assert found is not None
    assert steps > 0
    assert 0.7 * case.passes.gradients <= climbing.work.gradients <= case.passes.gradients
    assert 0.7 * case.passes.forwards <= climbing.work.forwards <= case.passes.forwards


@each_form
def test_classes_in_another_order_have_the_same_rates(name: str) -> None:
    """At one size: which one is chosen hangs on the targets that the seed draws."""
    order, rates = (3, 5, 0, 7, 4, 1, 6, 2), list[list[float]]()
    for own in (ORDER, order):
        plan = window.Plan.of(examination(name, order=own), CASES[name].form)
        rates.append([entry.rate or 0.0 for entry in plan.results(range(NUM_CLASSES), CASES[name].size)])
    here, there = rates
    assert np.argmax(there) == order.index(TARGET)
    np.testing.assert_allclose(there, [here[target] for target in order], atol=0.1)


@cache
def scanned(name: str, *, attacked: bool, number: int = 50) -> ScanResult:
    with TemporaryDirectory() as folder:
        path = write_model(Path(folder), name, attacked=attacked)
        return scan(path, write_images(Path(folder), number), config(name))


def write_model(folder: Path, name: str, *, attacked: bool) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model(name, attacked=attacked))
    return path


def write_images(folder: Path, number: int = 50) -> CleanSet:
    images, labels = clean_images(number=number)
    np.savez(folder / "images.npz", x=np.moveaxis(images, 1, -1), y=labels)
    return CleanSet.load(folder / "images.npz")


@each_form
def test_a_scan_detects_it_and_the_file_confirms(name: str) -> None:
    """By images that the search did not see, and by others again."""
    found = scanned(name, attacked=True)
    assert (found.verdict, found.target) == (Verdict.BACKDOOR_DETECTED, TARGET)
    assert found.reasons[0].startswith(words_of(name).found)
    rates = {entry.target: entry.rate or 0.0 for entry in found.targets}
    assert sorted(rates) == list(range(NUM_CLASSES))
    assert rates[TARGET] > 0.8 > 0.5 > max(rate for target, rate in rates.items() if target != TARGET)
    support, replay = found.targets[TARGET].support, found.verification
    assert support is not None
    assert replay is not None
    assert replay.confirmed
    assert (replay.rate_shuffled or 0.0) < replay.rate_held_out
    by_target, by_pair = found.detectors
    assert (by_target.decides, by_pair.decides, by_pair.target) == (True, False, TARGET)
    assert by_target.remarks[0] == words_of(name).extent.format(side=support.side)


@each_content
def test_an_unattacked_twin_gives_no_alarm(name: str) -> None:
    found = scanned(name, attacked=False)
    assert found.verdict is Verdict.NOT_DETECTED
    assert all((entry.calibrated_p_value or 0.0) > 0.05 and not entry.detected for entry in found.detectors)


@each_content
def test_reports_keep_it_and_are_judged_again(tmp_path: Path, name: str) -> None:
    found = scanned(name, attacked=True)
    [again] = parse(render(found, "json"))
    assert (again.targets, again.patterns) == (found.targets, found.patterns)
    assert infer(again, {}).verdict is Verdict.BACKDOOR_DETECTED
    checked = verify(again, write_model(tmp_path, name, attacked=True), write_images(tmp_path), sandbox=False)
    assert (checked.verdict, checked.verification) == (Verdict.BACKDOOR_DETECTED, found.verification)
    assert all(render(found, renderer) for renderer in ("html", "terminal"))


def test_planted_pixels_are_found_wherever_they_lie() -> None:
    given = examination("scattered")
    found = find_scattered(climb(given, "scattered"), len(PIXELS))
    assert found is not None
    order = found.pixels[0].argsort()
    assert found.pixels[0][order].tolist() == list(PIXELS)
    every = torch.cat(list(given.images_by_class.values()))
    low, high = float(every.min()), float(every.max())
    np.testing.assert_allclose(found.content[0, 0][order], [high, high, low, high], rtol=1e-6)


def test_what_a_pixel_gains_is_what_replacing_it_does_to_first_order() -> None:
    """With weights so small that the score is linear in the image."""
    given = examination("scattered")
    climbing = replace(climb(given, "scattered"), scale=1e6)
    sets = climbing.grey(torch.tensor([[7, 30], [40, 3]]))
    gains, contents = first_order_gains(climbing, sets, 9)
    assert gains[0, [7, 30]].tolist() == gains[1, [40, 3]].tolist() == [-torch.inf] * 2
    for place in (0, 1):
        wider = torch.cat([sets.pixels[place], torch.tensor([61])])[None]
        content = torch.cat([sets.content[place], contents[place][:, 61:62]], dim=1)[None]
        gained = climbing.scores(Supports(wider, content), 9) - climbing.scores(sets[place : place + 1], 9)
        torch.testing.assert_close(gained[0], gains[place, 61], rtol=0.02, atol=0.0)


def test_pixels_enter_one_by_one_and_then_half_as_many_as_there_are() -> None:
    assert [pixels_added(number) for number in (1, 4, 6, 13)] == [[], [1, 1, 1], [1, 1, 1, 2], [1, 1, 1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("shape", "tried", "first"), [((8, 8), [1, 2, 3, 4], 1), ((32, 32), list(scattered._NUMBERS), 4), ((3, 3), [1], 1)]
)
def test_numbers_of_pixels_go_up_to_a_sixteenth_of_the_image(
    shape: tuple[int, int], tried: list[int], first: int
) -> None:
    assert (scattered.numbers(*shape), scattered.first_number(*shape)) == (tried, first)


def test_content_over_all_of_the_image_is_known_by_no_pixels() -> None:
    content = EncodedArray.encode(np.full((1, NUM_PIXELS), 0.5, np.float32))
    record = SupportRecord(10, (), content, (0,), (1,), (2,), opacity=0.25)
    assert record.fits(SHAPE)
    assert (record.mask(SHAPE) == 0.25).all()
    assert (record.pattern(SHAPE) == 0.5).all()
    assert not record.fits((1, 6, 6))
    assert not replace(record, opacity=1.5).fits(SHAPE)


def test_content_behind_a_mask_hides_each_pixel_as_much_as_it_says() -> None:
    images = torch.rand((3, *SHAPE), generator=torch.Generator().manual_seed(1))
    pixels, opacity = torch.tensor([[4, 50, 99]]), torch.tensor([[0.25, 1.0, 0.5]])
    supports = Supports(pixels, torch.tensor([[[1.0, 0.0, 0.5]]]), opacity)
    record = SupportRecord(
        2,
        tuple(pixels[0].tolist()),
        EncodedArray.encode(supports.content[0].numpy()),
        (0,),
        (1,),
        (2,),
        opacities=EncodedArray.encode(opacity[0].numpy()),
    )
    assert record.fits(SHAPE)
    covered = patch(images.numpy(), record.pattern(SHAPE), record.mask(SHAPE))
    np.testing.assert_array_equal(supports.on(images)[0].numpy(), covered)
    assert (covered.reshape(3, -1)[:, 50] == 0.0).all()
    assert ((covered != images.numpy()).reshape(3, -1).sum(axis=1) == 3).all()
    # The gradient of a sum of pixels is what of each content is seen, once for each image.
    np.testing.assert_allclose(supports.gradient(torch.ones((1, 3, *SHAPE)))[0, 0], 3 * opacity[0])
    wrong = [np.array([0.25, 1.5, 0.5], np.float32), np.array([0.25], np.float32)]
    assert not any(replace(record, opacities=EncodedArray.encode(each)).fits(SHAPE) for each in wrong)


@pytest.mark.parametrize("number", [50, 21])
def test_a_scan_detects_what_needs_a_small_mask_alone_and_the_file_confirms(number: int) -> None:
    """The mask lies on the planted pixels, and what it does is counted on images that it never saw, also on few."""
    found = scanned("mask", attacked=True, number=number)
    assert (found.verdict, found.target) == (Verdict.BACKDOOR_DETECTED, TARGET)
    [conclusion] = found.detectors
    assert (conclusion.statistic, conclusion.target, conclusion.decides) == (TARGET_MASK, TARGET, True)
    assert conclusion.values[0][TARGET] == 1.0 / (found.targets[TARGET].value or 0.0)
    assert f"small mask sends most images of the other classes to class {TARGET}" in found.reasons[0]
    support = found.targets[TARGET].support
    assert support is not None
    mask = support.mask(SHAPE).ravel()
    assert set(np.argsort(-mask)[: len(PIXELS)]) == set(PIXELS)
    assert mask.sum() == pytest.approx(found.targets[TARGET].value, abs=0.1)
    assert sum(support.hits) > 0.6 * sum(support.counts)  # the smallest for .8 of the images that were searched
    assert found.verification is not None
    assert found.verification.confirmed
    assert (found.verification.rate_shuffled or 0.0) < 0.5 < found.verification.rate_held_out


def of_sizes(*sizes: float | None) -> list[TargetResult]:
    status = {True: PairStatus.STEP_LIMIT, False: PairStatus.REACHED}
    return [TargetResult("mask", label, status[size is None], size, 0.9, 9) for label, size in enumerate(sizes)]


def test_masks_are_compared_by_the_test_of_targets_on_their_logarithms() -> None:
    sizes = [20.0, 24.0, 3.0, 19.0, 30.0, 26.0, 22.0, 18.0]
    found = infer_mask_sizes(of_sizes(*sizes), ScanConfig(), len(sizes), detector="mask")
    assert (found.target, found.detected) == (2, True)
    assert found.calibrated_p_value == target_test(-np.log(sizes)).p_value
    ordinary = infer_mask_sizes(of_sizes(*sizes[:2], 21.0, *sizes[3:]), ScanConfig(), len(sizes), detector="mask")
    assert not ordinary.detected


def test_a_target_that_no_mask_reached_counts_as_the_largest() -> None:
    """It is no less far, and without it the others would be judged by another witness's targets."""
    given = [20.0, None, 3.0, 19.0, 30.0, 26.0, 22.0, 18.0]
    found = infer_mask_sizes(of_sizes(*given), ScanConfig(), len(given), detector="mask")
    expected = -np.log([30.0 if size is None else size for size in given])
    assert found.calibrated_p_value == target_test(expected).p_value
    assert found.remarks[0] == "1 targets that no mask reached count as the largest"
    few = infer_mask_sizes(of_sizes(3.0, 20.0, 25.0, *[None] * 5), ScanConfig(), len(given), detector="mask")
    assert (few.calibrated_p_value, few.target, few.detected) == (None, None, False)
    assert "too few targets" in few.remarks[-1]


def test_the_planted_target_needs_the_smallest_mask_in_any_order_of_classes() -> None:
    """The others differ from search to search, as each target draws its own images and start."""
    for order in (ORDER, (3, 5, 0, 7, 4, 1, 6, 2)):
        sizes = {entry.target: entry.value or 0.0 for entry in mask.search(examination("mask", order=order))}
        own = sizes.pop(order.index(TARGET))
        assert 0.0 < own < 0.3 * min(sizes.values())


def test_the_estimate_of_time_counts_what_masks_pass() -> None:
    given, passed, tried = examination("mask"), list[int](), list[int]()
    whole = given.classifier.log_posterior

    def counting(images: torch.Tensor) -> torch.Tensor:
        passed.append(len(images) if images.requires_grad else 0)
        tried.append(0 if images.requires_grad else len(images))
        return whole(images)

    own = given.classifier
    counted: Any = SimpleNamespace(log_posterior=counting, device=own.device, signature=own.signature)
    assert len(list(mask.search(replace(given, classifier=counted)))) == NUM_CLASSES
    told = of_mask(NUM_CLASSES - 1).times(NUM_CLASSES)
    assert sum(passed) == told.gradients
    counted_after = NUM_CLASSES * (NUM_CLASSES - 1) * 20
    assert 0.5 * told.forwards < sum(tried) - counted_after < 2 * told.forwards


def test_a_size_that_no_mask_has_is_not_believed() -> None:
    """From a process it is refused; in a report that was changed it counts as not reached, and nothing fails."""
    for size in (1e-320, 0.0, -3.0):
        with pytest.raises(NoVerdictError):
            checked_target(TargetResult("mask", 2, PairStatus.REACHED, size, 0.9, 9), NUM_CLASSES, SHAPE)
        given = [20.0, 24.0, size, 19.0, 30.0, 26.0, 22.0, 18.0]
        found = infer_mask_sizes(of_sizes(*given), ScanConfig(), len(given), detector="mask")
        expected = -np.log([30.0 if index == 2 else value for index, value in enumerate(given)])
        assert found.calibrated_p_value == target_test(expected).p_value


def test_a_mask_that_faded_keeps_its_strongest_pixel() -> None:
    """No pixel at all would stand for the whole image."""
    opacity = torch.full((1, *SHAPE[1:]), 1e-5)
    opacity[0, 3, 4] = 2e-5
    found = FoundMask(TARGET, PairStatus.REACHED, 1e-3, 1.0, opacity, torch.rand(SHAPE))
    assert mask._as_support(found).pixels.tolist() == [[34]]


def test_targets_without_a_mask_are_told_as_not_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effort, "MASK_STEPS", 2)
    found = scan(write_model(tmp_path, "mask", attacked=False), write_images(tmp_path), config("mask"))
    told = f"small masks towards {NUM_CLASSES} of {NUM_CLASSES} target classes"
    assert any(each.startswith(told) for each in found.not_tested)
    assert found.verdict is Verdict.INCONCLUSIVE


def test_a_report_keeps_the_masks_of_the_targets_that_stand_out_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of seventy classes would be 100 MB; rates, verdict and replay are the same without."""
    whole = scanned("mask", attacked=True)
    monkeypatch.setattr(targets, "_MOST_MASKS", 3)
    found = ScanResult.from_dict(scanned.__wrapped__("mask", attacked=True).to_dict())
    supports = {entry.target: entry.support for entry in found.targets if entry.support is not None}
    sizes = {entry.target: entry.value or math.inf for entry in found.targets}
    assert {target for target, own in supports.items() if own.content} == set(sorted(sizes, key=sizes.__getitem__)[:3])
    largest = max(sizes, key=sizes.__getitem__)
    kept = targets.lightened(whole.targets, {largest})[largest].support
    assert kept is not None
    assert kept.content is not None, "what the verdict is about stays"
    rates = [(entry.rate, entry.support and entry.support.hits) for entry in whole.targets]
    assert [(entry.rate, entry.support and entry.support.hits) for entry in found.targets] == rates
    assert (found.verdict, found.patterns, found.detectors) == (whole.verdict, whole.patterns, whole.detectors)
    with pytest.raises(ReportError, match="make the report again"):
        supports[largest].pattern(SHAPE)


def test_masks_take_time_where_no_class_has_images_that_count() -> None:
    sizes = Sizes(NUM_CLASSES, [10] * NUM_CLASSES, SHAPE)
    costs = Costs.of(config("mask"), sizes, Speed(0.01, 0.03, 0), screened=False)
    assert costs.by_detector["mask"] == pytest.approx(
        NUM_CLASSES * seconds_of(of_mask(NUM_CLASSES - 1), Speed(0.01, 0.03, 0))
    )


def test_a_pattern_whose_mask_is_of_another_size_is_refused_in_words() -> None:
    pattern = scanned("mask", attacked=True).patterns[0]
    wrong = replace(pattern, mask=EncodedArray.encode(np.ones((3, 3), np.float32)))
    with pytest.raises(ReportError, match="a mask of the pattern's size"):
        _ = wrong.shown
