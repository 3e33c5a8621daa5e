"""Detectors that search once per target class: margins against a linear program, masks and indices against formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from backscan.converters import artifact_from_bytes, import_model, read_signature
from backscan.kernels.embedding import patch
from backscan.scanner.config import PRESETS, ScanConfig
from backscan.scanner.detectors import TARGET_DETECTORS, Examination, margin, mask_search, neural_cleanse, tabor
from backscan.scanner.detectors.mask_search import Masked, blend
from backscan.scanner.inference.target_test import target_test
from backscan.scanner.pipeline import targets
from backscan.scanner.pipeline.rejudge import infer
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.process.parent import SettledModel
from backscan.scanner.reports import render
from backscan.scanner.results import PairStatus, ScanResult, TargetResult, Verdict
from backscan.scanner.store.reports import parse
from tests import planted
from tests.scanner.pipeline.scans import QUICK, SOURCE, TARGET, scanned, write_model

SHAPE, NUM_CLASSES = (1, 5, 5), 4
WEIGHT, BIAS = planted.linear_parameters(NUM_CLASSES, SHAPE, seed=3)
CONFIG = ScanConfig(threads=1, norm="l1", null="gamma", bootstrap_draws=199)


def examination(weight: np.ndarray, bias: np.ndarray, head: str = "logits", **options: object) -> Examination:
    """A linear model with images around grey, each under the class that the model decides for."""
    artifact = artifact_from_bytes("m.onnx", planted.linear_softmax(parameters=(weight, bias), head=head))
    classifier = import_model(artifact, read_signature(artifact))
    rng = np.random.default_rng(0)
    images = torch.from_numpy((0.5 + 0.1 * rng.normal(size=(80, *SHAPE))).astype(np.float32)).clamp(0, 1)
    with torch.no_grad():
        decisions = classifier.log_posterior(images).argmax(dim=1)
    return Examination(
        classifier=classifier,
        images_by_class={c: images[decisions == c] for c in range(len(weight)) if (decisions == c).any()},
        decisions_by_class={},
        num_classes=len(weight),
        config=replace(CONFIG, **options),
        stopped=lambda: False,
    )


def results(name: str, given: Examination) -> dict[int, TargetResult]:
    return {entry.target: entry for entry in TARGET_DETECTORS[name].search(given)}


def largest_margin(target: int) -> float:
    """Largest lead over all others, (w_t - w_c) x + b_t - b_c, of images in [0, 1]: a linear program in both."""
    others = [c for c in range(NUM_CLASSES) if c != target]
    flat = WEIGHT.reshape(NUM_CLASSES, -1).astype(np.float64)
    leads = np.hstack([flat[others] - flat[target], np.ones((len(others), 1))])  # lead - (w_t - w_c) x <= b_t - b_c
    goal = np.zeros(flat.shape[1] + 1)
    goal[-1] = -1.0
    bounds = [(0.0, 1.0)] * flat.shape[1] + [(None, None)]
    solved = optimize.linprog(goal, A_ub=leads, b_ub=BIAS[target] - BIAS[others], bounds=bounds)
    assert solved.success
    return -float(solved.fun)


@pytest.mark.parametrize("head", ["logits", "log_probabilities", "probabilities"])
def test_margins_are_those_of_the_linear_program(head):
    """Log-posteriors differ from logits by one number per image, so that a head changes no margin."""
    found = results("margin", examination(WEIGHT, BIAS, head=head))
    for target in range(NUM_CLASSES):
        assert found[target].value <= largest_margin(target) * (1 + 1e-4)
        assert found[target].value >= largest_margin(target) * 0.98


def test_margins_need_no_images_and_no_other_targets():
    given = examination(WEIGHT, BIAS)
    everywhere = results("margin", given)
    alone = results("margin", replace(given, images_by_class={}, config=replace(given.config, targets=(2,))))
    assert alone == {2: everywhere[2]}
    assert results("margin", replace(given, config=replace(given.config, seed=1))) != everywhere


def of_margins(*margins: float | None) -> list[TargetResult]:
    return [TargetResult("margin", t, PairStatus.REACHED, value, None, 9) for t, value in enumerate(margins)]


def test_the_null_is_that_of_scipy():
    margins = np.random.default_rng(1).gamma(30.0, size=10)
    margins[6] *= 2.5
    found = margin.infer(of_margins(*margins), CONFIG, 10)
    others = np.delete(margins, 6)
    shape, _, scale = stats.gamma.fit(others, floc=0)
    assert found.null.parameters["shape"] == pytest.approx(shape, rel=1e-4)
    tail = stats.gamma.sf(margins[6], shape, scale=scale)
    assert found.p_value == pytest.approx(-np.expm1(10 * np.log1p(-tail)), rel=1e-3)
    assert (found.source, found.target, found.decides, found.num_pairs) == (None, 6, False, 10)
    assert found.calibrated_p_value <= 0.05
    deviation = stats.median_abs_deviation(margins, scale="normal")
    assert found.anomaly_index == pytest.approx((margins[6] - np.median(margins)) / deviation, rel=1e-4)


def test_the_calibrated_p_of_margins_keeps_its_level():
    """Of ideal nulls about a twentieth lies below 0.05; the published p would be far below."""
    rng = np.random.default_rng(2)
    found = [margin.infer(of_margins(*rng.gamma(20.0, size=10)), CONFIG, 10) for _ in range(300)]
    calibrated = np.mean([each.calibrated_p_value <= 0.05 for each in found])
    published = np.mean([each.p_value <= 0.05 for each in found])
    assert stats.binomtest(round(calibrated * 300), 300, 0.05).pvalue > 0.01
    assert published > 0.1 > calibrated


@pytest.mark.parametrize(
    ("margins", "remark"),
    [
        ((1.0, 2.0, None), "expected at least 3 classes to compare, found 2"),
        ((1.0, 2.0, -1.0, 3.0), "a class leads on no image at all"),
        ((2.0, 2.0, 2.0, 2.0), "the null could not be fitted"),
        ((), "expected at least 3 classes to compare, found 0"),
    ],
)
def test_margins_without_a_null_say_why(margins, remark):
    found = margin.infer(of_margins(*margins), CONFIG, 4)
    assert (found.p_value, found.calibrated_p_value, found.decides) == (None, None, False)
    assert remark in found.remarks[0]


# One pixel that leads to class 0 from everywhere; the other classes have ten pixels of their own each.
PIXEL, GAIN = 24, 40.0


def with_a_pixel() -> Examination:
    weight = np.zeros((NUM_CLASSES, *SHAPE), np.float32)
    flat = weight.reshape(NUM_CLASSES, -1)
    for label in range(NUM_CLASSES):
        flat[label, 6 * label : 6 * label + 6] = 3.0
    flat[0, PIXEL] = GAIN
    bias = -weight.sum(axis=(1, 2, 3)) / 2
    return examination(weight, bias.astype(np.float32))


def least_mask(given: Examination, goal: float) -> float:
    """Of a mask on that pixel alone, with white behind it: the weight at which the goal rate is reached."""
    images = torch.cat([images for label, images in given.images_by_class.items() if label != 0])
    with torch.no_grad():
        scores = given.classifier.logits(images).numpy().astype(np.float64)
    behind = scores[:, 1:].max(axis=1) - scores[:, 0]
    needed = behind / (GAIN * (1 - images.flatten(1)[:, PIXEL].numpy()))
    return float(np.sort(needed)[int(np.ceil(goal * len(needed))) - 1])


@pytest.mark.parametrize("name", ["neural-cleanse", "tabor"])
def test_the_smallest_mask_is_the_pixel_that_leads_there(name):
    given = with_a_pixel()
    given = replace(given, config=replace(given.config, max_steps=200))
    found = results(name, given)
    assert {entry.status for entry in found.values()} == {PairStatus.REACHED}
    assert all(entry.rate >= 0.8 for entry in found.values())
    least = least_mask(given, 0.8)
    assert least <= found[0].value * (1 + 1e-6)
    assert found[0].value < 3 * least + 0.5
    assert min(found[target].value for target in (1, 2, 3)) > 2 * found[0].value
    inference = TARGET_DETECTORS[name].infer(list(found.values()), CONFIG, NUM_CLASSES)
    assert (inference.target, inference.source, inference.decides) == (0, None, False)
    assert (inference.p_value is None) == (name == "tabor")
    sizes = np.array([found[target].value for target in range(NUM_CLASSES)])
    expected = (np.median(sizes) - sizes) / stats.median_abs_deviation(sizes, scale="normal")
    np.testing.assert_allclose(inference.values[0], expected, rtol=1e-4)
    assert inference.anomaly_index == pytest.approx(expected[0], rel=1e-4)
    assert inference.detected is bool(expected[0] > 2.0)


def test_longer_searches_find_smaller_masks_and_a_factor_of_one_keeps_the_weight():
    given = with_a_pixel()
    sizes = {
        options: results("neural-cleanse", replace(given, config=replace(given.config, **dict(options))))[0].value
        for options in ((("max_steps", 60),), (("max_steps", 200),), (("max_steps", 200), ("mask_weight", 1.0)))
    }
    short, adapted, kept = sizes.values()
    assert adapted < short
    assert adapted < kept


def test_targets_are_searched_alike_alone_and_in_one_batch():
    """A GPU takes all targets in one batch, a CPU one at a time."""
    given = with_a_pixel()
    given = replace(given, config=replace(given.config, max_steps=40))
    together = mask_search.search_masks(given, [0, 1, 2, 3], lambda m: neural_cleanse.mask_share(m, "l1"))
    for entry in together:
        [alone] = mask_search.search_masks(given, [entry.target], lambda m: neural_cleanse.mask_share(m, "l1"))
        assert (alone.target, alone.status, alone.rate) == (entry.target, entry.status, entry.rate)
        assert alone.size == pytest.approx(entry.size, rel=1e-3)


def test_an_end_of_time_leaves_targets_out():
    given = with_a_pixel()
    asked = iter([False] * 100 + [True] * 10_000)
    given = replace(given, stopped=lambda: next(asked), config=replace(given.config, max_steps=60))
    assert set(results("neural-cleanse", given)) == {0}


def a_mask(target: int, size: float | None) -> TargetResult:
    status = PairStatus.STEP_LIMIT if size is None else PairStatus.REACHED
    return TargetResult("neural-cleanse", target, status, size, 0.9, 9)


def test_masks_that_reached_a_limit_are_left_out():
    """XMK 5.2.2: they would skew the median."""
    sizes = [9.0, None, 8.0, 1.0, 10.0, 9.5, None, 8.5]
    found = neural_cleanse.infer([a_mask(t, size) for t, size in enumerate(sizes)], CONFIG, 8)
    kept = np.array([size for size in sizes if size is not None])
    expected = (np.median(kept) - 1.0) / stats.median_abs_deviation(kept, scale="normal")
    assert (found.target, found.num_pairs, found.detected) == (3, 6, True)
    assert found.anomaly_index == pytest.approx(expected, rel=1e-4)
    assert found.values[0][1] is None
    # The p-value is that of the test of targets on the masks that are left.
    judged = target_test([-np.log(size) if size else np.nan for size in sizes])
    assert (found.calibrated_p_value, judged.order[0]) == (judged.p_value, 3)
    assert found.p_value is not None
    alike = neural_cleanse.infer([a_mask(t, 9.0 + t) for t in range(8)], CONFIG, 8)
    assert found.calibrated_p_value < 0.05 < alike.calibrated_p_value
    assert tabor.infer([a_mask(t, size) for t, size in enumerate(sizes)], CONFIG, 8).p_value is None
    assert "2 targets did not reach the goal rate and are left out" in found.remarks
    careful = neural_cleanse.infer(
        [a_mask(t, size) for t, size in enumerate(sizes)], replace(CONFIG, anomaly_threshold=100.0), 8
    )
    assert not careful.detected


@pytest.mark.parametrize("sizes", [[], [3.0, 1.0], [None, None, 2.0, 1.0]])
def test_too_few_masks_have_no_index(sizes):
    found = neural_cleanse.infer([a_mask(t, size) for t, size in enumerate(sizes)], CONFIG, 4)
    assert (found.target, found.anomaly_index, found.detected) == (None, None, False)
    assert (found.p_value, found.calibrated_p_value) == (None, None)
    assert "expected at least 3 masks to compare" in found.remarks


def test_an_index_is_finite_where_most_masks_agree():
    found = neural_cleanse.infer([a_mask(t, size) for t, size in enumerate([5.0, 5.0, 5.0, 1.0])], CONFIG, 4)
    assert found.detected
    assert np.isfinite(found.anomaly_index)


def test_a_blend_is_equation_8():
    generator = torch.Generator().manual_seed(0)
    images, mask = torch.rand(2, 3, 1, 4, 4, generator=generator), torch.rand(2, 1, 4, 4, generator=generator)
    pattern = torch.rand(2, 1, 4, 4, generator=generator)
    for t in range(2):
        expected = patch(images[t].numpy(), pattern[t].numpy(), mask[t].numpy())
        np.testing.assert_array_equal(blend(images, mask, pattern)[t].numpy(), expected)


def test_irregularities_are_those_of_the_formulas():
    """A mask of two halves on a uniform classifier: every cross-entropy is log K."""
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1.0
    pattern = torch.full((1, 1, 4, 4), 0.5)

    def uniform(images: torch.Tensor) -> torch.Tensor:
        return torch.full((*images.shape[:2], 8), -np.log(8.0))

    masked = Masked(
        torch.rand(1, 5, 1, 4, 4), torch.zeros(1, 5, dtype=torch.int64), torch.tensor([3]), mask, pattern, uniform
    )
    border = 4 / 12  # of 12 horizontal neighbours 4 differ, by 1 in the mask and by 0.5 outside it
    outside = 0.25 + 0.125 + 0.5 * border
    scattered = 0.5 + border
    expected = 0.1 * outside + 1.0 * scattered + 0.1 * np.log(8.0) + 0.1 * np.log(8.0)
    assert float(tabor.irregularity(masked)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("preset", "norm", "weight", "goal"),
    [
        ("NC-L1-1.5", "l1", 1.5, 0.8),
        ("NC-L2-1.5", "l2", 1.5, 0.8),
        ("NC-L1-1.0", "l1", 1.0, 0.8),
        ("NC-L1-1.5-0.5", "l1", 1.5, 0.5),
    ],
)
def test_presets_are_the_variants_of_the_paper(preset, norm, weight, goal):
    assert preset in PRESETS
    config = ScanConfig().with_preset(preset)
    assert config.detectors == ("neural-cleanse",)
    assert (config.norm, config.mask_weight, config.goal_rate) == (norm, weight, goal)


@pytest.fixture(scope="module")
def with_neural_cleanse() -> ScanResult:
    return scanned(config=replace(QUICK, detectors=("pairwise", "neural-cleanse"), max_steps=30))


def test_what_informs_changes_no_verdict(with_neural_cleanse):
    alone = scanned(config=replace(QUICK, max_steps=30))
    assert with_neural_cleanse.verdict is Verdict.BACKDOOR_DETECTED
    assert with_neural_cleanse.calibrated_p_value == alone.calibrated_p_value
    assert with_neural_cleanse.pairs == alone.pairs
    assert [entry.target for entry in with_neural_cleanse.targets] == list(range(5))
    assert with_neural_cleanse.detectors[0] == alone.detectors[0]
    reread = ScanResult.from_dict(with_neural_cleanse.to_dict())
    assert infer(reread, {}).to_dict() == reread.to_dict()


@pytest.mark.parametrize("name", ["html", "markdown", "terminal"])
def test_reports_for_people_show_the_index(with_neural_cleanse, name):
    text = " ".join(render(with_neural_cleanse, name).split())
    told = 'neural-cleanse, mask</th><td role="cell" ' if name == "html" else "neural-cleanse, mask: anomaly index"
    assert told in text
    assert "anomaly index" in text or ">Index</th>" in text


def test_the_page_shows_every_target(with_neural_cleanse):
    text = render(with_neural_cleanse, "html")
    assert "Every target class, neural-cleanse" in text
    assert "Size of the mask (L2)" in text


def test_the_json_report_holds_every_target(with_neural_cleanse):
    [again] = parse(render(with_neural_cleanse, "json"))
    assert again.targets == with_neural_cleanse.targets


def test_detectors_that_only_inform_give_no_verdict():
    result = scanned(config=replace(QUICK, detectors=("neural-cleanse",), max_steps=3))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "those chosen only inform: add --detector pairwise" in result.reasons[0]


@pytest.mark.parametrize("sandbox", [False, True])
def test_without_images_the_margins_are_told_and_decide_nothing(tmp_path, sandbox):
    """The shortcut leads to its target by a logit that no image of the others reaches."""
    result = scan(write_model(tmp_path), None, replace(QUICK, sandbox=sandbox))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "no images were given" in result.reasons[0]
    head, told = result.detectors
    assert (head.detector, head.source, head.decides) == ("head", None, False)
    assert (told.detector, told.target, told.source, told.decides) == ("margin", TARGET, None, False)
    assert told.calibrated_p_value == 1 / 200
    assert not result.parity.real_images
    assert f"class {SOURCE}" not in result.reasons[0]
    assert render(result, "terminal")
    assert render(result, "html")
    again = scan(write_model(tmp_path), None, QUICK)
    assert again.targets == result.targets


def test_margins_of_a_large_model_are_searched_only_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "_MOST_VALUES_UNASKED", 100)
    unasked = scan(write_model(tmp_path), None, QUICK)
    assert [each.detector for each in unasked.detectors] == ["head"]
    assert any("--detector margin searches them" in text for text in unasked.not_tested)
    asked = scan(write_model(tmp_path), None, replace(QUICK, detectors=("margin",)))
    assert len(asked.targets) == 5


def test_margins_of_a_copy_that_is_not_the_model_are_not_told(tmp_path, monkeypatch):
    real = SettledModel.compare
    monkeypatch.setattr(
        SettledModel,
        "compare",
        lambda *args, **options: replace(real(*args, **options), passed=False, reason="the copy is another"),
    )
    result = scan(write_model(tmp_path), None, QUICK)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.targets == ()
    assert any("the copy is another" in text for text in result.not_tested)
